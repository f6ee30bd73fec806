# SPDX-License-Identifier: Apache-2.0
"""SNP collateral as people keep it: one JSON document. Nothing is verified here, and no file is opened.

Two documents are read: ours, with a member for each kind of endorsement, and the one that Azure's hosts hand to their guests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import Endorsement, EndorsementError, Endorsements
from eaa.tee.dcap.collateral_files import crl_from_bytes
from eaa.tee.snp.certificates import read_endorsement_key
from eaa.tee.x509 import split_pem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["endorsements_from_snp_json", "endorsements_to_snp_json"]

_MAX_DOCUMENT: Final = 4 * 1024 * 1024
_KEYS: Final = ("snp_vcek", "snp_vlek")
_KINDS: Final = (*_KEYS, "snp_chain", "snp_crl")
_AZURE_KEY, _AZURE_CHAIN = "vcekCert", "certificateChain"


def endorsements_from_snp_json(text: bytes, name: str = "collateral") -> Endorsements:
    """Read ``{"snp_vcek": hex DER, "snp_vlek": hex DER, "snp_chain": PEM, "snp_crl": hex DER}``, each of them optional and, where there
    are several, a list; or Azure's ``{"vcekCert": PEM, "certificateChain": PEM}``. Other members are passed over. ``name`` is what
    errors call the document.

    :raises EndorsementError: when it is malformed, or holds no collateral.
    """  # noqa: D205 - the members are one list
    document = parse_json(text, _MAX_DOCUMENT, error=EndorsementError)
    if not isinstance(document, dict):
        raise EndorsementError(f"{name} is JSON, but no object")
    try:
        items = tuple(_azure(document) if _AZURE_KEY in document else _ours(document))
    except EndorsementError as error:
        hint = error.hint or "Get it again from AMD's KDS or your Endorser."
        raise EndorsementError(f"{name}: {error}", hint=hint) from error
    if not items:
        raise EndorsementError(
            f"{name} holds no SNP collateral", hint=f"It has members such as {', '.join(_KINDS)}."
        )
    return Endorsements(items)


def endorsements_to_snp_json(endorsements: Endorsements) -> dict[str, Any]:
    """Return a set as the JSON document that :func:`endorsements_from_snp_json` reads; items of other kinds are left out."""
    document: dict[str, Any] = {}
    for kind in _KINDS:
        contents = [
            each.content.decode("ascii") if kind == "snp_chain" else each.content.hex()
            for each in endorsements.of_kind(kind)
        ]
        if contents:
            document[kind] = contents[0] if len(contents) == 1 else contents
    return document


def _ours(document: dict[str, Any]) -> Iterator[Endorsement]:
    for kind in _KINDS:
        value = document.get(kind)
        for text in value if isinstance(value, list) else [value]:
            if text is None or text == "":
                continue
            if not isinstance(text, str):
                raise EndorsementError(f"{kind} is a {type(text).__name__}, expected a string")
            yield Endorsement(kind, _content(kind, text))


def _content(kind: str, text: str) -> bytes:
    data = text.encode()
    if kind == "snp_chain":
        split_pem(data)
        return data
    if kind == "snp_crl":
        return crl_from_bytes(data)
    try:
        der = split_pem(data)[0] if text.lstrip().startswith("-----BEGIN") else bytes.fromhex(text)
    except ValueError as error:
        raise EndorsementError(f"{kind} is neither hex nor PEM") from error
    read_endorsement_key(der)
    return der


def _azure(document: dict[str, Any]) -> Iterator[Endorsement]:
    key, chain = document[_AZURE_KEY], document.get(_AZURE_CHAIN)
    if not isinstance(key, str) or not isinstance(chain, str):
        raise EndorsementError(f"{_AZURE_KEY} or {_AZURE_CHAIN} is no text")
    yield Endorsement("snp_vcek", _content("snp_vcek", key))
    yield Endorsement("snp_chain", _content("snp_chain", chain))
