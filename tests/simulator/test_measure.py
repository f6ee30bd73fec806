# SPDX-License-Identifier: Apache-2.0
"""Measurements of simulated guests."""

from __future__ import annotations

from hashlib import sha384

from hypothesis import given
from hypothesis import strategies as st

from eaa.simulator import measure
from eaa.simulator.measure import replay

SIZES = {
    "mr_td": 48,
    "rtmr_0": 48,
    "rtmr_1": 48,
    "rtmr_2": 48,
    "rtmr_3": 48,
    "mr_enclave": 32,
    "mr_signer": 32,
}


@given(st.binary() | st.text())
def test_an_image_has_one_set_of_measurements(image: bytes | str) -> None:
    registers = measure(image)
    assert {name: len(bytes.fromhex(value)) for name, value in registers.items()} == SIZES
    assert measure(image) == registers
    assert measure(image.encode() if isinstance(image, str) else image) == registers


def test_another_image_differs_where_its_software_is() -> None:
    one, other = measure("web server 1.4"), measure("web server 1.5")
    same = {name for name in SIZES if one[name] == other[name]}
    assert same == {"rtmr_0", "rtmr_3", "mr_signer"}


def test_registers_stay_the_same_from_release_to_release() -> None:
    # Owners register these values: a change here is a change of format.
    registers = measure("web server 1.4")
    assert registers["mr_td"] == sha384(b"EAA simulated TD web server 1.4").hexdigest()
    assert registers["rtmr_1"] == _chain(b"boot loader", b"kernel web server 1.4")
    assert registers["rtmr_2"] == _chain(b"command line", b"initrd web server 1.4")
    assert registers["rtmr_3"] == "00" * 48


def test_the_order_of_extends_counts() -> None:
    digests = [sha384(name).digest() for name in (b"a", b"b")]
    assert replay(digests) != replay(digests[::-1])
    assert replay([]) == bytes(48)


def _chain(*contents: bytes) -> str:
    register = bytes(48)
    for content in contents:
        register = sha384(register + sha384(content).digest()).digest()
    return register.hex()
