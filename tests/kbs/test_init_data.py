# SPDX-License-Identifier: Apache-2.0
"""Init-data: its digest in a field of any size, its claims, and what is refused in linear time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.kbs import MAX_INIT_DATA, parse_init_data
from eaa.rats import ProtocolError

HEAD = 'version = "0.1.0"\nalgorithm = "{}"\n\n[data]\n'
TEXT = HEAD.format("sha384") + (
    "\"aa.toml\" = '''\n[token_configs.kbs]\nurl = \"https://kbs.example\"\n'''\n"
    "\"cdh.toml\" = '''\nsocket = \"unix:///run/cdh.sock\"\ncredentials = []\nsince = 2026-01-02T03:04:05Z\n'''\n"
    "\"policy.rego\" = '''\npackage agent_policy\n\ndefault CreateContainerRequest := false\n\n"
    'CreateContainerRequest if {{\n  policy_data.containers[_]\n}}\n\npolicy_data := {{"containers": [{{"OCI": {{}}}}]}}\n'
    '\'\'\'\n"role" = "web"\n'
).replace("{{", "{").replace("}}", "}")


def body(data: str, algorithm: str = "sha256") -> str:
    return HEAD.format(algorithm) + data


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("size", [32, 48, 64])
def test_digest_is_of_every_byte_and_fills_any_field(algorithm: str, size: int) -> None:
    """Longer digests are cut to the field, shorter ones followed by zeros."""
    text = body("# a comment counts, too\na = 'é'\n", algorithm)
    digest = hashlib.new(algorithm, text.encode()).digest()
    document = parse_init_data("toml", text)
    assert document.digest == digest
    assert document.digest_in(size) == (digest + bytes(64))[:size]
    assert parse_init_data("toml", text + "\n").digest != digest


def test_claims_have_trustees_names() -> None:
    """The two configurations become objects, the agent's policy gives way to its data, whatever else stays text."""
    assert parse_init_data("toml", TEXT).claims() == {
        "aa.toml": {"token_configs": {"kbs": {"url": "https://kbs.example"}}},
        "cdh.toml": {
            "socket": "unix:///run/cdh.sock",
            "credentials": [],
            "since": "2026-01-02T03:04:05+00:00",
        },
        "agent_policy_claims": {"containers": [{"OCI": {}}]},
        "role": "web",
    }


def claims_of(rego: str) -> Any:
    return parse_init_data("toml", body(f'"policy.rego" = {json.dumps(rego)}')).claims()


@pytest.mark.parametrize(
    "rego",
    [
        'policy_data := {"a": 1}',
        'policy_data = {"a": 1} # the end',
        '# policy_data := {"a": 2}\npolicy_data := {"a": 1}\nother := 2',
        'a if { policy_data.x == "{" }\n\npolicy_data := {"a": 1}\n\nb := `policy_data := {}`',
        'default policy_data := {"a": 1}',
    ],
)
def test_policy_data_is_read_where_it_is_defined(rego: str) -> None:
    """Comments, strings and uses are not definitions."""
    assert claims_of(rego) == {"agent_policy_claims": {"a": 1}}


@pytest.mark.parametrize(
    "rego",
    [
        "package agent_policy\n",
        'x := `\npolicy_data := {"a": 1}\n`',
        'x := "policy_data := {}"',
        'policy_data := {"a": 1}\npolicy_data := {"a": 2}',
        'policy_data := {"a": 1}\npolicy_data["b"] := 2',
        'policy_data := {"a": 1} if false',
        'policy_data := {"a": 1}\nif { false }',
        'policy_data := {"a": 1} { false }',
        'policy_data := {"a": 1}\nelse := {"a": 2}',
        'policy_data := {"a": 1} | {"b": 2}',
        'policy_data := {"a": [1, 2]}["a"]',
        'policy_data := {"a": 1, "a": 2}',
        'policy_data := {"a": input.a}',
        'other.policy_data := {"a": 1}',
        'policy_data.a := {"a": 1}',
        'policy_data := ["a"]',
        'policy_data := {"a": 1',
        'policy_data := {"a": "1}',
        '} policy_data := {"a": 1}',
        'policy_data := {"a": NaN}',
        'policy_data := {"a": ' + "[" * 99 + "]" * 99 + "}",
    ],
)
def test_policy_data_that_could_mean_something_else_are_left_out(rego: str) -> None:
    """What the guest's agent might read otherwise is no claim; the policy's text never is."""
    assert claims_of(rego) == {}


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("json", "{}", "format"),
        ("toml", "", "version"),
        ("toml", 'version = "0.1.0"\n[data]\n', "hash algorithm"),
        ("toml", HEAD.format("sm3"), "hash algorithm"),
        ("toml", HEAD.format("md5"), "hash algorithm"),
        ("toml", TEXT.replace("0.1.0", "0.2.0"), "version"),
        ("toml", 'version = "0.1.0"\nalgorithm = "sha256"\n', "table of texts"),
        ("toml", body("a = 1"), "table of texts"),
        ("toml", body("a.b = 'x'"), "table of texts"),
        ("toml", body("a = 'x"), "not TOML"),
        ("toml", body("a = '\ud800'"), "not Unicode"),
        ("toml", body("a = '" + "ä" * (MAX_INIT_DATA // 2) + "'"), "at most"),
    ],
)
def test_anything_else_is_refused(form: str, text: str, reason: str) -> None:
    """Another format, version, algorithm or shape is refused with what is expected."""
    with pytest.raises(ProtocolError, match=reason):
        parse_init_data(form, text)


@pytest.mark.parametrize(
    "content", ["a = nan", "a = -inf", "a = 0x" + "f" * 5000, "a = " + "9" * 5000, "a ="]
)
def test_configuration_that_json_cannot_express_is_refused(content: str) -> None:
    """No number reaches policies and tokens that their readers cannot hold."""
    document = parse_init_data("toml", body(f"'cdh.toml' = '{content}'"))
    with pytest.raises(ProtocolError, match=r"cdh\.toml"):
        document.claims()


@pytest.mark.parametrize(
    "data",
    [
        "a" + ".a" * 400_000 + " = ''",
        "[a" + ".a" * 400_000 + "]",
        "a = " + "[" * 500_000,
        "a = " + '"' * 999_000,
        'a = "' + '\\"' * 499_000,
        'a = """' + 'x"' * 499_000,
        "a = '''" + "x'" * 499_000,
        "\"policy.rego\" = '''" + '"\\' * 260_000 + "'''",
        "\"policy.rego\" = '''" + "{" * 520_000 + "'''",
        '"policy.rego" = \'\'\'policy_data := {"a": ' + "[" * 500_000 + "'''",
        "\n".join(f"a{n}.b.c.d.e.f.g.h.i.j.k = ''" for n in range(30_000)),
    ],
)
def test_no_text_takes_long(data: str) -> None:
    """A megabyte made to be slow is read or refused in a moment: the names of the standard library's reader are bounded."""
    began = time.perf_counter()
    with contextlib.suppress(ProtocolError):
        parse_init_data("toml", body(data)).claims()
    assert time.perf_counter() - began < 3


@given(st.text(max_size=300) | st.text("abc.[]{}=\"'\\\n#,:1policy_data", max_size=80).map(body))
def test_any_text_is_init_data_or_refused(text: str) -> None:
    """A document with JSON claims, or a ProtocolError."""
    try:
        document = parse_init_data("toml", text)
        claims = document.claims()
    except ProtocolError:
        return
    assert len(document.digest) in {32, 48, 64}
    json.dumps(claims, allow_nan=False)


@given(st.text('policy_data:={}[]"`#,1 \nif.', max_size=60))
def test_any_agent_policy_is_read(rego: str) -> None:
    """Whatever the policy, there is an object of claims or none."""
    claims = claims_of(rego + '\npolicy_data := {"a": 1}\n')
    assert claims == {} or isinstance(claims["agent_policy_claims"], dict)


def test_contents_are_not_in_the_repr() -> None:
    """Logs do not repeat what a guest is configured with."""
    assert "kbs.example" not in repr(parse_init_data("toml", TEXT))
