# SPDX-License-Identifier: Apache-2.0
"""What a simulated guest measures to.

A guest of this simulator is made of an *image*: any bytes or words. Its registers follow from them as on hardware: MRTD is a
digest over what the TD was built of, an RTMR is replayed from the digests that were extended into it, in order:
``RTMR = SHA-384(RTMR ‖ digest)`` (TDX Module ABI, TDG.MR.RTMR.EXTEND).
"""

from __future__ import annotations

import hashlib
import tomllib
from hashlib import sha256, sha384
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULT_IMAGE", "init_data_digest", "measure", "replay"]

DEFAULT_IMAGE: Final = "eaa simulated guest"
_SIGNER: Final = b"EAA simulated enclave signer"


def measure(image: bytes | str) -> dict[str, str]:
    """Return the registers of a guest and of an enclave made of ``image``, lower-case hex under the vendor's names.

    ``mr_td`` and ``rtmr_0`` … ``rtmr_3`` are 48 bytes, ``mr_enclave`` and ``mr_signer`` 32. ``rtmr_3`` is zero, as no
    simulated guest extends it at boot; ``mr_signer`` is the same for every image, as one signer signs them all.
    """
    content = image.encode() if isinstance(image, str) else image
    events = (
        (b"td hob", b"firmware volume"),
        (b"boot loader", b"kernel " + content),
        (b"command line", b"initrd " + content),
        (),
    )
    registers = {"mr_td": sha384(b"EAA simulated TD " + content).hexdigest()}
    for index, contents in enumerate(events):
        registers[f"rtmr_{index}"] = replay(sha384(each).digest() for each in contents).hex()
    registers["mr_enclave"] = sha256(b"EAA simulated enclave " + content).hexdigest()
    registers["mr_signer"] = sha256(_SIGNER).hexdigest()
    return registers


def replay(digests: Iterable[bytes]) -> bytes:
    """Return the register that the 48-byte ``digests`` leave when they are extended in this order."""
    register = bytes(48)
    for digest in digests:
        register = sha384(register + digest).digest()
    return register


def init_data_digest(text: bytes, size: int) -> bytes:
    """Return what a host puts into a launch field of ``size`` bytes for this init-data, a TOML text that names its hash algorithm.

    :raises ConfigurationError: when it does not.
    """
    try:
        digest = hashlib.new(tomllib.loads(text.decode())["algorithm"], text).digest()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            "init-data is not TOML with a hash algorithm",
            hint='It begins with version = "0.1.0" and algorithm = "sha384".',
        ) from error
    return digest[:size].ljust(size, b"\0")
