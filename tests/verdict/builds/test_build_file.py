# SPDX-License-Identifier: Apache-2.0
"""Build files are read strictly: what is not understood, could lead astray or waits for itself is refused with the reason."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eaa.verdict.build_file import MAX_BUILD_FILE, BuildFileError, parse_build_file

ONE, TWO = "1" * 64, "2" * 64
SOUND = f"""
format = 1
name = "guest"
[environment]
release = "bookworm"
source_date_epoch = 1735689600
packages = [{{ package = "busybox-static", version = "1:1.35.0-4+b1", sha256 = "{ONE}" }}]
[environment.variables]
COLOUR = "blue"
[sources]
init = {{ file = "src/init", sha256 = "{TWO}" }}
kernel = {{ package = "memtest86+", version = "6.10-4", sha256 = "{ONE}" }}
[steps.pack]
inputs = ["unpack/tree", "kernel"]
run = [["busybox", "cp", "in/tree", "out/initrd"]]
outputs = ["initrd"]
[steps.unpack]
inputs = ["init"]
run = [["busybox", "cp", "in/init", "out/tree"]]
outputs = ["tree"]
[outputs]
initrd = "pack/initrd"
"""


def with_(old: str, new: str) -> bytes:
    assert SOUND.count(old) >= 1, old
    return SOUND.replace(old, new, 1).encode()


def test_a_sound_file_says_what_it_says() -> None:
    """Steps come in an order in which they can run, and everything that goes in is pinned."""
    file = parse_build_file(SOUND.encode())
    assert (file.name, list(file.steps), file.outputs) == (
        "guest",
        ["unpack", "pack"],
        {"initrd": "pack/initrd"},
    )
    assert file.digest == sha256(SOUND.encode()).hexdigest()
    assert [(pin.name, pin.uri, pin.sha256) for pin in file.pins] == [
        ("build-file", "", file.digest),
        (
            "environment/busybox-static",
            "pkg:deb/debian/busybox-static@1%3A1.35.0-4%2Bb1?arch=amd64&distro=bookworm",
            ONE,
        ),
        ("source/init", "file:src/init", TWO),
        ("source/kernel", "pkg:deb/debian/memtest86%2B@6.10-4?arch=amd64&distro=bookworm", ONE),
    ]
    assert [each.package for each in file.packages] == ["busybox-static", "memtest86+"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (with_("[sources]", "[surprise]\n[sources]"), "surprise: Extra inputs are not permitted"),
        (with_("[steps.pack]", "[steps.pack]\nroot = true"), "steps.pack.root: Extra inputs"),
        (with_("format = 1", "format = 2"), "format: Input should be 1"),
        (with_('"src/init"', '"../init"'), "no plain path"),
        (with_('"src/init"', '"src/../../init"'), "no plain path"),
        (with_('"src/init"', '"/etc/passwd"'), "no plain path"),
        (with_('"src/init"', '"src//init"'), "no plain path"),
        (with_('"src/init"', '"src/in\\nit"'), "no plain path"),
        (with_('initrd = "pack', '"in\\nitrd" = "pack'), "no plain name"),
        (with_('initrd = "pack', '"../initrd" = "pack'), "no plain name"),
        (with_('initrd = "pack', '".." = "pack'), "no plain name"),
        (with_('initrd = "pack', '"provenance.dsse.json" = "pack'), "kept for what EAA writes"),
        (with_('outputs = ["tree"]', 'outputs = ["tree", "../tree"]'), "no plain name"),
        (with_("[steps.unpack]", '[steps."-rf"]'), "no plain name"),
        (with_('"busybox-static"', '"--option"'), "no name of a Debian package"),
        (with_('"1:1.35.0-4+b1"', '"-o=x"'), "no version of a Debian package"),
        (with_('"bookworm"', '"bookworm main\\ndeb evil"'), "no word"),
        (with_(f'sha256 = "{TWO}"', 'sha256 = "2222"'), "no SHA-256"),
        (with_(f', sha256 = "{TWO}"', ""), "sources.init.file.sha256: Field required"),
        (with_('COLOUR = "blue"', 'SOURCE_DATE_EPOCH = "1"'), "fields of their own"),
        (with_('COLOUR = "blue"', '"A=B" = "1"'), "no name of a variable"),
        (with_('COLOUR = "blue"', 'COLOUR = "bl\\u0000ue"'), "cannot be shown"),
        (with_("source_date_epoch = 1735689600", "source_date_epoch = -1"), "greater than or equal to 0"),
        (with_("source_date_epoch = 1735689600", "source_date_epoch = true"), "valid integer"),
        (with_('run = [["busybox", "cp", "in/tree", "out/initrd"]]', 'run = ["busybox cp"]'), "valid list"),
        (with_('["busybox", "cp", "in/tree", "out/initrd"]', "[]"), "at least 1 item"),
        (
            with_('["busybox", "cp", "in/tree", "out/initrd"]', '["/bin/sh", "-c", "x"]'),
            "runs the shell 'sh'",
        ),
        (with_('["busybox", "cp", "in/tree", "out/initrd"]', '["busybox", "ash"]'), "runs the shell 'ash'"),
        (with_('["init"]', '["init", "init"]'), "input 'init' is there twice"),
        (with_('["unpack/tree", "kernel"]', '["unpack/nothing"]'), "which no step makes"),
        (with_('["unpack/tree", "kernel"]', '["nowhere/tree"]'), "which no step makes"),
        (with_('["unpack/tree", "kernel"]', '["nothing"]'), "which is no source"),
        (with_('"pack/initrd"', '"init"'), "must come from a step"),
        (with_('"pack/initrd"', '"unpack/tree"'), "step 'pack' leads to no output"),
        (with_('["unpack/tree", "kernel"]', '["unpack/tree"]'), "source 'kernel' is used by no step"),
        (with_("[steps.unpack]", "[steps.init]"), "name of a source and of a step"),
        (
            with_('inputs = ["init"]', 'inputs = ["init", "unpack/tree"]'),
            "wait for each other: unpack -> unpack",
        ),
        (
            with_('inputs = ["init"]', 'inputs = ["init", "pack/initrd"]'),
            "steps wait for each other: ",
        ),
        (SOUND.encode() + b"[limits]\nseconds = 0\n", "limits.seconds"),
        (SOUND.encode() + b"[limits]\nbytes = 9223372036854775807\n", "limits.bytes"),
        (SOUND.encode() + b'[rebuild]\nkeep = ["everything"]\n', "rebuild.keep"),
        (b"format = 1\nformat = 1\n", "is no TOML"),
        (b"a = " + b"[" * 100_000, "is no TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b" " * (MAX_BUILD_FILE + 1), "at most"),
        (b"", "format: Field required"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    """Unknown keys, hostile paths and names, cycles, missing pins and shells that nobody declared."""
    with pytest.raises(BuildFileError) as refused:
        parse_build_file(data)
    assert reason in str(refused.value)


def test_a_shell_runs_where_it_is_declared() -> None:
    """`shell = true` is how a file says that it wants one."""
    shell = with_('[["busybox", "cp", "in/tree", "out/initrd"]]', '[["sh", "-c", "x"]]\nshell = true')
    assert parse_build_file(shell).steps["pack"].shell


@given(
    st.binary(max_size=400)
    | st.text(max_size=400).map(lambda text: SOUND.encode() + text.encode(errors="replace"))
)
@example(b"name = 1979-05-27T07:32:00Z")
def test_any_bytes_give_a_file_or_the_error(data: bytes) -> None:
    """Parsing is total."""
    with suppress(BuildFileError):
        parse_build_file(data)
