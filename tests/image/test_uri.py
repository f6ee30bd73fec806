# SPDX-License-Identifier: Apache-2.0
"""Resource URIs: the forms people write, and that nothing else becomes a path."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eaa.image import ImageError, ResourceUri


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("kbs:///default/key/1", ""),
        ("kbs://broker.example:8080/default/key/1", "broker.example:8080"),
        ("kbs://[::1]:8080/default/key/1", "[::1]:8080"),
        ("10.0.0.1:8080/default/key/1", "10.0.0.1:8080"),
        ("/default/key/1", ""),
        ("default/key/1", ""),
    ],
)
def test_every_form_names_the_same_resource(text: str, host: str) -> None:
    uri = ResourceUri.parse(text)
    assert (uri.path, uri.host) == ("default/key/1", host)


def test_the_written_form_reads_back() -> None:
    uri = ResourceUri("my-repo", "key", "v1.2")
    assert str(uri) == "kbs:///my-repo/key/v1.2"
    assert ResourceUri.parse(str(uri)) == uri


def test_a_bare_key_name_is_a_key_of_the_default_repository() -> None:
    assert ResourceUri.parse_key_id("84688df7-2c0c-40fa-956b-29d8e74d16c0").path == (
        "default/key/84688df7-2c0c-40fa-956b-29d8e74d16c0"
    )
    assert ResourceUri.parse_key_id("kbs:///a/b/c").path == "a/b/c"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "kbs://",
        "kbs:///a/b",
        "kbs:///a/b/c/d",
        "kbs://a/b/c",
        "kbs:///a//c",
        "kbs:///../../etc",
        "kbs:///a/b/.hidden",
        "kbs:///a/b/c%2f",
        "kbs:///a/b/c?x=1",
        "kbs:///a/b/c\n",
        "kbs:///a/b/ç",
        "kbs+plugin:///a/b/c",
        "http://h/a/b/c",
        "user@host/a/b/c",
        "a" * 2000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ImageError):
        ResourceUri.parse(text)


@given(st.text(max_size=60) | st.from_regex(r"(kbs://)?[a-z:.]*(/[a-z.\-]*){2,4}", fullmatch=True))
@example("kbs:///a/b/c")
def test_a_path_holds_three_plain_segments_or_is_refused(text: str) -> None:
    try:
        uri = ResourceUri.parse_key_id(text)
    except ImageError:
        return
    assert re.fullmatch(r"([\w\-][\w\-.]*/){2}[\w\-][\w\-.]*", uri.path, re.ASCII)
