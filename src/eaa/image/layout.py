# SPDX-License-Identifier: Apache-2.0
"""The digests of container images in a folder or an archive: manifests, configurations, layers.

OCI Image Layout 1.0 (a folder, or a tar of it), and the archive that ``docker save`` writes. Every digest is computed from the content; one that the
layout says, and that is not its content's, is refused.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from eaa._json import parse_json
from eaa.image.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

__all__ = ["ImageDigests", "image_digests"]

_MAX_JSON: Final = 4 << 20
_MAX_IMAGES: Final = 64
_MAX_LAYERS: Final = 512
_MAX_MEMBERS: Final = 100_000
_CHUNK: Final = 1 << 20
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_HINT: Final = "Give an OCI layout (skopeo copy … oci:DIR) or the archive of docker save."


@dataclass(frozen=True, slots=True)
class ImageDigests:
    """One image. ``manifest`` is what a registry knows it by, empty in docker's archive, whose layers have no compressed form yet.

    ``layers`` are the digests of the layers as they lie there, ``diff_ids`` what the configuration says of them uncompressed. ``config`` is the
    image's id.
    """

    name: str
    platform: str
    manifest: str
    config: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]


class _Files(Protocol):
    """Where an image's files lie."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file, or raise ImageError."""

    def __contains__(self, name: str) -> bool: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, name: str) -> bool:
        return (self._path / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self._path / name).open("rb")
        except OSError as error:
            raise ImageError(f"the image has no {name}: {error.strerror}", hint=_HINT) from None


class _Archive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(archive):
            if number >= _MAX_MEMBERS:
                raise ImageError(f"the archive has more than {_MAX_MEMBERS} members", hint=_HINT)
            if member.isfile():
                self._members[member.name.removeprefix("./")] = member

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        content = self._archive.extractfile(member) if member is not None else None
        if content is None:
            raise ImageError(f"the image has no {name[:100]}", hint=_HINT)
        return content


def image_digests(path: Path) -> tuple[ImageDigests, ...]:
    """Return the images of a layout or an archive, one for each platform.

    :raises ImageError: when it is neither, is damaged, or is too large.
    """
    with _opened(path) as files:
        if "index.json" in files:
            return tuple(_index(files, _json(files, "index.json"), "", depth=0))
        if "manifest.json" in files:
            return tuple(_docker(files, _json(files, "manifest.json")))
    raise ImageError(f"{path} is no container image", hint=_HINT)


@contextmanager
def _opened(path: Path) -> Iterator[_Files]:
    if path.is_dir():
        yield _Folder(path)
        return
    try:
        with tarfile.open(path, "r:") as archive:
            yield _Archive(archive)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint=_HINT) from None
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        raise ImageError(f"{path} is no archive, or a damaged one", hint=_HINT) from None


def _index(files: _Files, index: Any, name: str, *, depth: int) -> Iterator[ImageDigests]:
    manifests = _list(index, "manifests", _MAX_IMAGES)
    for each in manifests:
        digest = _descriptor(each)
        named = _text(each.get("annotations") or {}, "org.opencontainers.image.ref.name") or name
        content = _json(files, _blob(digest), digest)
        if each.get("mediaType") in _INDEXES:
            if depth:
                raise ImageError("an index of images lies in another", hint=_HINT)
            yield from _index(files, content, named, depth=1)
        else:
            yield _image(files, digest, content, named)


def _image(files: _Files, digest: str, manifest: Any, name: str) -> ImageDigests:
    config = _descriptor(manifest.get("config") if isinstance(manifest, dict) else None)
    layers = tuple(_descriptor(layer) for layer in _list(manifest, "layers", _MAX_LAYERS))
    described = _json(files, _blob(config), config)
    for layer in layers:
        with files.open(_blob(layer)) as content:
            _require(layer, _digest(content, layer.partition(":")[0]))
    return ImageDigests(name, _platform(described), digest, config, layers, _diff_ids(described))


def _docker(files: _Files, manifest: Any) -> Iterator[ImageDigests]:
    """Read docker's own list: names of files instead of digests."""
    if not isinstance(manifest, list) or not 0 < len(manifest) <= _MAX_IMAGES:
        raise ImageError("the archive's manifest.json lists no images", hint=_HINT)
    for each in manifest:
        names = [_text({"": name}, "") for name in _list(each, "Layers", _MAX_LAYERS)]
        file = _text(each, "Config")
        described = _json(files, file)
        with files.open(file) as content:
            config = _digest(content)
        layers = []
        for name in names:
            with files.open(name) as content:
                layers.append(_digest(content))
        diff_ids = _diff_ids(described)
        if tuple(layers) != diff_ids:
            raise ImageError("a layer of the archive is not the one that its configuration names", hint=_HINT)
        tags = each.get("RepoTags") or [""]
        name = tags[0] if isinstance(tags, list) and isinstance(tags[0], str) else ""
        yield ImageDigests(name, _platform(described), "", config, tuple(layers), diff_ids)


def _json(files: _Files, name: str, digest: str = "") -> Any:
    with files.open(name) as content:
        data = content.read(_MAX_JSON + 1)
    if digest:
        algorithm = digest.partition(":")[0]
        _require(digest, f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    return parse_json(data, _MAX_JSON, error=ImageError)


def _digest(content: IO[bytes], algorithm: str = "sha256") -> str:
    hasher = hashlib.new(algorithm)
    while chunk := content.read(_CHUNK):
        hasher.update(chunk)
    return f"{algorithm}:{hasher.hexdigest()}"


def _require(said: str, found: str) -> None:
    if said != found:
        raise ImageError(f"a part of the image is not {said}, but {found}", hint="Fetch the image again.")


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _descriptor(value: Any) -> str:
    digest = value.get("digest") if isinstance(value, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageError("a part of the image is named by no digest of SHA-256 or SHA-512", hint=_HINT)
    return digest


def _list(value: Any, name: str, limit: int) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list) or len(found) > limit:
        raise ImageError(f"the image has no {name}, or more than {limit}", hint=_HINT)
    return found


def _text(value: Any, name: str) -> str:
    found = value.get(name, "") if isinstance(value, dict) else ""
    if not isinstance(found, str):
        raise ImageError("a name in the image is no text", hint=_HINT)
    return found


def _platform(config: Any) -> str:
    words = (_text(config, "os"), _text(config, "architecture"), _text(config, "variant"))
    return "/".join(word for word in words if word)


def _diff_ids(config: Any) -> tuple[str, ...]:
    root = config.get("rootfs") if isinstance(config, dict) else None
    found = _list(root, "diff_ids", _MAX_LAYERS)
    return tuple(_descriptor({"digest": each}) for each in found)
