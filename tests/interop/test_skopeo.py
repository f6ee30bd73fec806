# SPDX-License-Identifier: Apache-2.0
"""The real skopeo, through the real Verdictd and the real Attestation Agent."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._demo.containers import ContainerTools, Image, ToolFailed, write_key_provider_config
from eaa.cli._demo.sides import Machine, Owner, boot
from eaa.image.layout import image_digests

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.cli._demo.processes import Processes

pytestmark = pytest.mark.interop

ANNOTATION = "org.opencontainers.image.enc.keys.provider.attestation-agent"
OTHERS = [
    ("other", "back door", (), "reference.tdx.mr_td"),
    ("debug", "interop guest", ("debug",), "tdx.td.debug"),
]


def packets(image: Image) -> list[dict[str, Any]]:
    """The annotation packets of an image, one for each layer."""
    return [json.loads(b64decode(layer["annotations"][ANNOTATION])) for layer in image.manifest["layers"]]


def replaced(image: Image, folder: Path, packet: dict[str, Any]) -> Image:
    """A copy of the image whose every layer carries ``packet``."""
    copy = Image(folder)
    shutil.copytree(image.layout, folder)
    index = json.loads((folder / "index.json").read_bytes())
    manifest = image.manifest
    for layer in manifest["layers"]:
        layer["annotations"][ANNOTATION] = b64encode(json.dumps(packet).encode()).decode()
    written = json.dumps(manifest).encode()
    digest = f"sha256:{sha256(written).hexdigest()}"
    copy.blob(digest).write_bytes(written)
    index["manifests"][0] |= {"digest": digest, "size": len(written)}
    (folder / "index.json").write_text(json.dumps(index))
    return copy


def test_every_layer_is_encrypted_under_the_named_key(encrypted: Image, plain: Image) -> None:
    """skopeo stores one packet per layer that names the key, and no plain layer."""
    assert encrypted.encrypted
    assert not encrypted.holds_any(plain.layers)
    assert [packet["kid"] for packet in packets(encrypted)] == ["kbs:///default/key/interop"] * 2


def test_an_attested_guest_opens_the_identical_image(
    tools: ContainerTools, encrypted: Image, plain: Image, guest: Path, tmp_path: Path
) -> None:
    """After attestation the layers come out byte for byte."""
    opened = Image(tmp_path / "opened")
    tools.decrypt(encrypted, opened, guest)
    assert opened.layers == plain.layers
    assert not opened.encrypted


@pytest.mark.parametrize(("name", "software", "faults", "check"), OTHERS)
def test_another_guest_gets_nothing_but_the_reason(
    name: str, software: str, faults: tuple[str, ...], check: str, tools: ContainerTools, encrypted: Image, plain: Image,
    owner: Owner, processes: Processes, folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """skopeo fails with the id of the check, what it reads about the owner's values is nothing, and no layer is written."""
    machine = Machine(owner.data, software, faults=faults)
    provider = boot(processes, folder, name, machine, owner.url, owner.ca_file)
    with pytest.raises(ToolFailed) as refused:
        tools.decrypt(encrypted, Image(tmp_path / "opened"), provider)
    assert check in refused.value.stderr
    expected = owner.eaa("sim", "measure", "--image", "interop guest")["mr_td"][0]
    assert expected[:16] not in refused.value.stderr
    assert not Image(tmp_path / "opened").holds_any(plain.layers)
    assert check in {each.check for each in owner.why()}


def test_a_packet_that_names_another_key_opens_nothing(
    tools: ContainerTools, encrypted: Image, guest: Path, owner: Owner, tmp_path: Path
) -> None:
    """A layer key wrapped under one key is not opened with another that the guest may have, too."""
    owner.eaa("key", "create", "second", "--data", str(owner.data), "--json")
    moved = replaced(
        encrypted, tmp_path / "moved", packets(encrypted)[0] | {"kid": "kbs:///default/key/second"}
    )
    with pytest.raises(ToolFailed):
        tools.decrypt(moved, Image(tmp_path / "opened"), guest)


def test_a_packet_of_an_unknown_key_says_so(
    tools: ContainerTools, encrypted: Image, guest: Path, tmp_path: Path
) -> None:
    """An attested guest learns that a key does not exist."""
    moved = replaced(
        encrypted, tmp_path / "moved", packets(encrypted)[0] | {"kid": "kbs:///default/key/nowhere"}
    )
    with pytest.raises(ToolFailed) as refused:
        tools.decrypt(moved, Image(tmp_path / "opened"), guest)
    assert "NotFound" in refused.value.stderr


def test_the_owners_key_provider_unwraps_nothing(
    tools: ContainerTools, encrypted: Image, plain: Image, owner: Owner, tmp_path: Path
) -> None:
    """Who can encrypt an image cannot decrypt one: Verdictd's socket has no UnWrapKey."""
    with pytest.raises(ToolFailed):
        tools.decrypt(encrypted, Image(tmp_path / "opened"), owner.key_provider)
    assert not Image(tmp_path / "opened").holds_any(plain.layers)


def test_a_missing_key_provider_is_an_error(
    tools: ContainerTools, encrypted: Image, plain: Image, tmp_path: Path
) -> None:
    """With nobody at the socket skopeo fails, and writes no layer."""
    nobody = write_key_provider_config(tmp_path / "nobody.json", "unix:///tmp/eaa-nobody.sock")
    with pytest.raises(ToolFailed):
        tools.decrypt(encrypted, Image(tmp_path / "opened"), nobody)
    assert not Image(tmp_path / "opened").holds_any(plain.layers)


def test_digests_of_an_image_are_those_that_skopeo_says(
    tools: ContainerTools, plain: Image, tmp_path: Path
) -> None:
    """Of a layout that umoci made, and of the archives that skopeo makes of it."""
    skopeo = [str(tools.skopeo), "--insecure-policy"]
    (layout,) = image_digests(plain.layout)
    source = f"oci:{plain.reference}"
    raw = subprocess.run([*skopeo, "inspect", source], capture_output=True, check=True)
    assert layout.manifest == json.loads(raw.stdout)["Digest"]
    assert layout.layers == plain.layers
    for kind in ("oci-archive", "docker-archive"):
        target = f"{kind}:{tmp_path / kind}:web:1"
        subprocess.run([*skopeo, "copy", "-q", source, target], capture_output=True, check=True)
        (archived,) = image_digests(tmp_path / kind)
        assert archived.diff_ids == layout.diff_ids
        assert archived.platform == layout.platform
        assert bool(archived.manifest) == (kind == "oci-archive")
