# SPDX-License-Identifier: Apache-2.0
"""Container images on disk, driven with the real umoci and skopeo.

Images are OCI layouts (OCI image specification, image-layout) named ``FOLDER:TAG``. Encryption is ocicrypt's: skopeo asks a
key provider over gRPC to wrap and unwrap each layer's key. Nothing here speaks to a registry or to any network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError, EaaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ContainerTools", "Image", "ToolFailed", "write_key_provider_config"]

KEY_PROVIDER: Final = "attestation-agent"
"""The name under which ocicrypt's configuration and the annotations know our key provider."""

_CHECKOUT: Final = Path(__file__).parents[4]
_DEADLINE: Final = 60.0


class ToolFailed(EaaError):
    """A container tool ended with a failure; ``stderr`` is what it said."""

    code = "demo.tool-failed"

    def __init__(self, tool: str, stderr: str) -> None:
        super().__init__(f"{tool} failed: {stderr.strip() or 'it said nothing'}")
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Image:
    """One tagged image in an OCI layout on disk."""

    layout: Path
    tag: str = "v1"

    @property
    def reference(self) -> str:
        """The image as umoci names it."""
        return f"{self.layout}:{self.tag}"

    @property
    def manifest(self) -> dict[str, Any]:
        """The image's manifest (OCI image specification, manifest)."""
        index = json.loads((self.layout / "index.json").read_bytes())
        for entry in index["manifests"]:
            if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == self.tag:
                manifest: dict[str, Any] = json.loads(self.blob(entry["digest"]).read_bytes())
                return manifest
        raise ConfigurationError(f"{self.layout} has no image tagged {self.tag}")

    @property
    def layers(self) -> tuple[str, ...]:
        """The digests of the layers, lowest first: equal digests are equal bytes."""
        return tuple(layer["digest"] for layer in self.manifest["layers"])

    @property
    def encrypted(self) -> bool:
        """Whether every layer is marked as encrypted."""
        return all(layer["mediaType"].endswith("+encrypted") for layer in self.manifest["layers"])

    def blob(self, digest: str) -> Path:
        """Return where the content with this digest lies."""
        algorithm, _, value = digest.partition(":")
        return self.layout / "blobs" / algorithm / value

    def holds_any(self, digests: Sequence[str]) -> bool:
        """Tell whether any of these contents was written, even when no image came of it."""
        return any(self.blob(digest).exists() for digest in digests)


@dataclass(frozen=True, slots=True)
class ContainerTools:
    """Where skopeo, umoci and a static busybox are on this machine."""

    skopeo: Path
    umoci: Path
    busybox: Path

    @classmethod
    def find(cls) -> ContainerTools:
        """Find the tools that ``make setup`` fetched, else those on ``PATH``.

        :raises ConfigurationError: when one is nowhere.
        """
        search = os.pathsep.join((str(_CHECKOUT / ".cache" / "tools"), os.environ.get("PATH", os.defpath)))
        found = {name: shutil.which(name, path=search) for name in ("skopeo", "umoci", "busybox")}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise ConfigurationError(
                f"not on this machine: {', '.join(missing)}", hint="Run `make setup`, which fetches them."
            )
        return cls(**{name: Path(path) for name, path in found.items() if path is not None})

    def build_image(self, image: Image, secret: bytes) -> None:
        """Build an image of two layers, busybox and one file with ``secret``, that prints the secret when run."""
        rootfs = image.layout.with_name(f"{image.layout.name}.rootfs")
        (rootfs / "bin").mkdir(parents=True)
        shutil.copy(self.busybox, rootfs / "bin" / "busybox")
        for applet in ("sh", "cat", "ls"):
            (rootfs / "bin" / applet).symlink_to("busybox")
        secret_file = rootfs.with_suffix(".secret")
        secret_file.write_bytes(secret)
        try:
            self._umoci("init", "--layout", str(image.layout))
            self._umoci("new", "--image", image.reference)
            self._umoci("insert", "--rootless", "--image", image.reference, str(rootfs), "/")
            self._umoci("insert", "--rootless", "--image", image.reference, str(secret_file), "/secret.txt")
            start = ("--config.entrypoint", "/bin/sh", "--config.cmd=-c", "--config.cmd=cat /secret.txt")
            self._umoci("config", "--image", image.reference, *start)
        finally:
            shutil.rmtree(rootfs)
            secret_file.unlink()

    def encrypt(self, source: Image, target: Image, key_id: str, provider_config: Path) -> None:
        """Encrypt every layer; the key provider wraps the layers' keys under the key-encryption key ``key_id``.

        :raises ToolFailed: when skopeo or the key provider refuses.
        """
        recipient = f"provider:{KEY_PROVIDER}:keyid={key_id}::algorithm=A256GCM"
        self._copy(source, target, ("--encryption-key", recipient), provider_config)

    def decrypt(self, source: Image, target: Image, provider_config: Path) -> None:
        """Decrypt every layer through the key provider, which has to obtain the key-encryption key.

        :raises ToolFailed: when skopeo or the key provider refuses.
        """
        self._copy(source, target, ("--decryption-key", f"provider:{KEY_PROVIDER}"), provider_config)

    def _copy(self, source: Image, target: Image, options: Sequence[str], provider_config: Path) -> None:
        # Trust in an image's origin is not the question here: nothing is pulled, so no signature policy is consulted.
        command = (
            str(self.skopeo),
            "--insecure-policy",
            "--tmpdir",
            str(target.layout.parent),
            "copy",
            "--quiet",
        )
        _run(
            (*command, *options, f"oci:{source.reference}", f"oci:{target.reference}"),
            {"OCICRYPT_KEYPROVIDER_CONFIG": str(provider_config)},
        )

    def _umoci(self, *arguments: str) -> None:
        _run((str(self.umoci), *arguments), {})


def write_key_provider_config(path: Path, endpoint: str) -> Path:
    """Write the file that ``OCICRYPT_KEYPROVIDER_CONFIG`` names, for a gRPC ``endpoint`` such as ``unix:///run/x.sock``."""
    path.write_text(json.dumps({"key-providers": {KEY_PROVIDER: {"grpc": endpoint}}}))
    return path


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the tools found above, arguments of our own
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(Path(command[0]).name, f"no answer within {_DEADLINE:.0f} seconds") from error
    if done.returncode != 0:
        raise ToolFailed(Path(command[0]).name, done.stderr)
