# SPDX-License-Identifier: Apache-2.0
"""Who may sign what: the configuration is sound or refused, and each way to be wrongly signed has its own reason."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa._keys import key_id, new_key, public_pem, read_private_key
from eaa.rats import ConfigurationError
from eaa.verdict.envelope import seal
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.signers import CLOCK_SKEW, SignerPolicy, Signers, open_set, parse_signers
from eaa.verdict.statement import Artifact, Statement

if TYPE_CHECKING:
    from eaa._keys import PrivateKey
    from eaa.verdict.reference_set import ReferenceSet

Keys = tuple["PrivateKey", ...]
AT = datetime(2026, 6, 1, tzinfo=UTC)
PUBLIC = new_key()[1]


def policy(keys: Keys, threshold: int = 2) -> SignerPolicy:
    named = {f"key{number}": key.public_key() for number, key in enumerate(keys)}
    return SignerPolicy((Signers("acme/web", named, threshold),))


def refused(data: bytes, signers: SignerPolicy, at: datetime = AT) -> str:
    with pytest.raises(SignatureRefused) as caught:
        open_set(data, signers, at)
    assert caught.value.hint
    return caught.value.check


def test_a_set_with_enough_signatures_opens(keys: Keys, reference_set: ReferenceSet) -> None:
    data = seal(reference_set.to_statement(), keys[1:])
    found = open_set(data, policy(keys), AT)
    assert found.set == reference_set
    assert found.signed_by == {key_id(key.public_key()) for key in keys[1:]}


def test_each_way_to_be_wrongly_signed_is_told_apart(keys: Keys, reference_set: ReferenceSet) -> None:
    statement, stranger = reference_set.to_statement(), read_private_key(new_key()[0])
    assert refused(seal(statement, []), policy(keys)) == "signature.none"
    assert refused(seal(statement, [keys[0]]), policy(keys)) == "signature.threshold"
    assert refused(seal(statement, [keys[0], stranger]), policy(keys)) == "signature.threshold"
    assert refused(seal(statement, [stranger]), policy(keys, 1)) == "signature.foreign"
    assert refused(seal(statement, keys), SignerPolicy(())) == "signature.product"
    other = Statement((Artifact.of("kernel", b""),), "https://slsa.dev/provenance/v1", {})
    assert refused(seal(other, keys), policy(keys)) == "set.type"


def test_a_changed_set_is_refused_as_tampered(keys: Keys, reference_set: ReferenceSet) -> None:
    value = json.loads(seal(reference_set.to_statement(), keys))
    payload = b64decode(value["payload"]).replace(b"ab" * 48, b"ac" * 48)
    changed = json.dumps(value | {"payload": b64encode(payload).decode()}).encode()
    assert refused(changed, policy(keys)) == "signature.tampered"


def test_one_key_counts_once(keys: Keys, reference_set: ReferenceSet) -> None:
    value = json.loads(seal(reference_set.to_statement(), [keys[2]]))
    again = json.loads(seal(reference_set.to_statement(), [keys[2]]))
    value["signatures"] += again["signatures"]  # ECDSA: another signature of the same key
    assert refused(json.dumps(value).encode(), policy(keys)) == "signature.threshold"
    assert open_set(json.dumps(value).encode(), policy(keys, 1), AT).signed_by == {
        key_id(keys[2].public_key())
    }


def test_a_strangers_bad_signature_takes_nothing_from_good_ones(
    keys: Keys, reference_set: ReferenceSet
) -> None:
    value = json.loads(seal(reference_set.to_statement(), keys[:2]))
    value["signatures"].insert(0, {"keyid": "someone", "sig": "AAAA"})
    assert open_set(json.dumps(value).encode(), policy(keys), AT).set == reference_set


def test_a_set_holds_from_its_issue_to_its_end(keys: Keys, reference_set: ReferenceSet) -> None:
    data, second = seal(reference_set.to_statement(), keys), timedelta(seconds=1)
    issued, end = reference_set.issued_at, reference_set.expires_at
    assert end is not None
    assert refused(data, policy(keys), issued - CLOCK_SKEW - second) == "set.future"
    assert open_set(data, policy(keys), issued - CLOCK_SKEW).set == reference_set
    assert open_set(data, policy(keys), end - second).set == reference_set
    assert refused(data, policy(keys), end) == "set.expired"
    endless = replace(reference_set, expires_at=None)
    assert open_set(seal(endless.to_statement(), keys), policy(keys), AT.replace(year=9000)).set == endless


def test_bytes_that_are_no_set_are_malformed(keys: Keys, reference_set: ReferenceSet) -> None:
    statement = replace(reference_set.to_statement(), predicate={"product": "acme/web"})
    for data in (b"", b"{}", seal(statement, keys)):
        with pytest.raises(StatementError):
            open_set(data, policy(keys), AT)


TOML = """
[keys]
release = "release.pub"
security = '''{pem}'''

[products."**"]
signers = ["security"]
threshold = 1

[products."acme/**"]
signers = ["release", "security"]
threshold = 2

[products."acme/*"]
signers = ["release"]
threshold = 1

[products."acme/web"]
signers = ["security"]
threshold = 1
"""


def parse(text: str, keys: Keys) -> SignerPolicy:
    files = {"release.pub": public_pem(keys[0].public_key()), "other.pub": PUBLIC}
    return parse_signers(text.encode(), files.__getitem__)


def test_the_most_specific_entry_decides(keys: Keys) -> None:
    found = parse(TOML.format(pem=public_pem(keys[2].public_key()).decode()), keys)
    assert {
        product: found.of_product(product).pattern for product in ("acme/web", "acme/db", "acme/db/1", "b")
    } == {
        "acme/web": "acme/web",
        "acme/db": "acme/*",
        "acme/db/1": "acme/**",
        "b": "**",
    }
    assert found.of_product("acme/db").keys == {"release": keys[0].public_key()}
    assert found.of_product("acme/db/1").threshold == 2


def test_two_entries_that_fit_alike_decide_nothing(keys: Keys) -> None:
    text = '[keys]\na = "release.pub"\n' + "".join(
        f'[products."{pattern}"]\nsigners = ["a"]\nthreshold = 1\n' for pattern in ("acme/*", "*/web")
    )
    found = parse(text, keys)
    assert found.of_product("acme/db").pattern == "acme/*"
    with pytest.raises(SignatureRefused, match="equally well") as caught:
        found.of_product("acme/web")
    assert caught.value.check == "signature.product"


def test_a_product_of_no_entry_has_no_signers(keys: Keys) -> None:
    found = parse('[keys]\na = "release.pub"\n[products."acme/**"]\nsigners = ["a"]\nthreshold = 1\n', keys)
    for product in ("acme", "acmes/web", "b/acme/web"):
        with pytest.raises(SignatureRefused, match="nobody is configured"):
            found.of_product(product)


KEYS = '[keys]\na = "release.pub"\n'
ENTRY = '[products."acme/web"]\nsigners = ["a"]\nthreshold = 1\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"no \[keys\]"),
        (KEYS, r"no \[products\]"),
        ("keys = 1", r"no \[keys\]"),
        ("= 1", "not TOML"),
        ("[keys]\na = 1\n" + ENTRY, "no text"),
        ('[keys]\na = "-----BEGIN PUBLIC KEY-----"\n' + ENTRY, "not an Ed25519"),
        ('[keys]\na = "release.pub"\nb = "release.pub"\n' + ENTRY, "two names"),
        ("more = 1\n" + KEYS + ENTRY, "'more'"),
        (KEYS + ENTRY + "extra = 1\n", "nothing else"),
        (KEYS + '[products."acme/web"]\nsigners = ["a"]\n', "nothing else"),
        (KEYS + '[products]\n"acme/web" = 1\n', "nothing else"),
        (KEYS + ENTRY.replace('["a"]', '"a"'), "no list"),
        (KEYS + ENTRY.replace('["a"]', "[1]"), "no list"),
        (KEYS + ENTRY.replace('["a"]', '["b"]'), "not in"),
        (KEYS + ENTRY.replace('["a"]', '["a", "a"]'), "twice"),
        (KEYS + ENTRY.replace("= 1", "= 0"), "asks for 0"),
        (KEYS + ENTRY.replace("= 1", "= 2"), "asks for 2"),
        (KEYS + ENTRY.replace("= 1", "= true"), "no whole number"),
        (KEYS + ENTRY.replace("acme/web", "acme/w*"), "no product"),
        (KEYS + ENTRY.replace("acme/web", "**/web"), "no product"),
        (KEYS + ENTRY.replace("acme/web", "**/**"), "no product"),
        (KEYS + ENTRY.replace("acme/web", ""), "no product"),
    ],
)
def test_an_unsound_configuration_is_refused_with_its_reason(text: str, reason: str, keys: Keys) -> None:
    parse(KEYS + ENTRY, keys)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse(text, keys)
    assert caught.value.hint


@given(data=st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_configuration_or_refused(data: bytes) -> None:
    def read(name: str) -> bytes:
        raise ConfigurationError(name)

    with pytest.raises(ConfigurationError):
        parse_signers(data, read)


@given(
    entry=st.dictionaries(
        st.sampled_from(["signers", "threshold", "more"]),
        st.integers(-1, 3) | st.lists(st.sampled_from(["a", "b"]), max_size=3) | st.booleans(),
    )
)
def test_an_entry_is_sound_or_refused(entry: dict[str, Any]) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in entry.items()]
    text = "\n".join(['[keys]\na = "a"\n[products."acme"]', *lines])
    try:
        found = parse_signers(text.encode(), lambda _: PUBLIC).of_product("acme")
    except ConfigurationError:
        return
    assert 1 <= found.threshold <= len(found.keys)
