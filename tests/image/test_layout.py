# SPDX-License-Identifier: Apache-2.0
"""Digests of container images: every part is held against its content, in a folder and in both kinds of archive."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.image import ImageError
from eaa.image.layout import image_digests

if TYPE_CHECKING:
    from pathlib import Path

LAYER = b"a layer, as it lies there"
DIFF_ID = f"sha256:{'ab' * 32}"
INDEX = "application/vnd.oci.image.index.v1+json"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layout(folder: Path, *, nested: bool = False) -> dict[str, str]:
    """Write an OCI layout of one image, and return the digests of its parts."""
    digests: dict[str, str] = {}

    def blob(name: str, content: bytes) -> dict[str, Any]:
        digests[name] = sha256(content)
        path = folder / "blobs" / "sha256" / digests[name].partition(":")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"digest": digests[name], "size": len(content)}

    config = {"os": "linux", "architecture": "arm64", "variant": "v8", "rootfs": {"diff_ids": [DIFF_ID]}}
    manifest = {"config": blob("config", json.dumps(config).encode()), "layers": [blob("layer", LAYER)]}
    named = {"annotations": {"org.opencontainers.image.ref.name": "web:1"}}
    described = blob("manifest", json.dumps(manifest).encode()) | named
    if nested:
        described = blob("index", json.dumps({"manifests": [described]}).encode()) | {"mediaType": INDEX}
    (folder / "index.json").write_text(json.dumps({"manifests": [described]}))
    return digests


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_a_layout_is_read_and_held_against_its_content(tmp_path: Path, *, nested: bool) -> None:
    digests = layout(tmp_path, nested=nested)
    (found,) = image_digests(tmp_path)
    assert (found.name, found.platform) == ("web:1", "linux/arm64/v8")
    assert (found.manifest, found.config) == (digests["manifest"], digests["config"])
    assert (found.layers, found.diff_ids) == ((digests["layer"],), (DIFF_ID,))


def test_an_archive_of_a_layout_is_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    folder.mkdir()
    layout(folder)
    with tarfile.open(tmp_path / "image.tar", "w") as made:
        made.add(folder, ".")
    assert image_digests(tmp_path / "image.tar") == image_digests(folder)


@pytest.mark.parametrize("part", ["config", "layer", "manifest"])
def test_a_changed_part_is_refused(tmp_path: Path, part: str) -> None:
    digests = layout(tmp_path)
    path = tmp_path / "blobs" / "sha256" / digests[part].partition(":")[2]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ImageError, match=f"is not {digests[part]}"):
        image_digests(tmp_path)
    path.unlink()
    with pytest.raises(ImageError, match="has no blobs"):
        image_digests(tmp_path)


def docker(layer: bytes = LAYER, **changed: Any) -> dict[str, bytes]:
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [sha256(LAYER)]}}
    listed = {"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["l.tar"]} | changed
    return {
        "c.json": json.dumps(config).encode(),
        "l.tar": layer,
        "manifest.json": json.dumps([listed]).encode(),
    }


def test_an_archive_of_docker_has_no_manifest(tmp_path: Path) -> None:
    files = docker()
    (found,) = image_digests(archive(tmp_path / "image.tar", files))
    assert (found.name, found.platform, found.manifest) == ("web:1", "linux/amd64", "")
    assert found.config == sha256(files["c.json"])
    assert found.layers == found.diff_ids == (sha256(LAYER),)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (docker(layer=b"another"), "not the one that its configuration names"),
        (docker(Config="absent.json"), "has no absent.json"),
        (docker(Layers=[1]), "no text"),
        (docker(Layers="l.tar"), "no Layers"),
        ({"manifest.json": b"[]"}, "lists no images"),
        ({"index.json": b'{"manifests": [{"digest": "sha256:../../etc/passwd"}]}'}, "no digest"),
        ({"index.json": b"{"}, "not JSON"),
        ({"other": b""}, "no container image"),
    ],
)
def test_an_archive_that_is_no_image_is_refused(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        image_digests(archive(tmp_path / "image.tar", files))


def test_links_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "image.tar", "w") as made:
        link = tarfile.TarInfo("index.json")
        link.type, link.linkname = tarfile.SYMTYPE, "index.json"
        made.addfile(link)
    with pytest.raises(ImageError, match="no container image"):
        image_digests(tmp_path / "image.tar")


@given(st.binary(max_size=600), st.integers(0, 3000))
def test_any_archive_gives_digests_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = archive(tmp_path_factory.mktemp("any") / "image.tar", docker())
    content = bytearray(path.read_bytes())
    content[at : at + len(noise)] = noise
    path.write_bytes(content)
    with contextlib.suppress(ImageError):
        image_digests(path)


def test_the_command_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = layout(tmp_path)
    assert run(measure, "eaa measure", ["image", str(tmp_path)]) == 0
    assert digests["manifest"] in capsys.readouterr().out
    assert run(measure, "eaa measure", ["image", str(tmp_path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["layers"] == [digests["layer"]]
    assert run(measure, "eaa measure", ["image", str(tmp_path / "index.json")]) == 2
