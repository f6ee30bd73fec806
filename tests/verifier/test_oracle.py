# SPDX-License-Identifier: Apache-2.0
"""The engine that Trustee runs (regorus) must decide as ours does, over every shipped policy and Trustee's idioms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from eaa.verifier.claims import policy_input
from eaa.verifier.policy import load_default

if TYPE_CHECKING:
    from eaa.verifier.policy import PolicyEngine

    from .conftest import Attest

pytestmark = pytest.mark.anyio
regorus = pytest.importorskip("regorus", reason="gordon-to-regorus is not installed")

IDIOMS = """package policy

import rego.v1

default executables := 33

executables := 3 if {
	input.tdx
	input.tdx.quote.body.rtmr_1 in query_reference_value("rtmr_1")
	kernel_is_known
} else := 4 if {
	input.tdx
	input.tdx.quote.body.rtmr_1 in query_reference_value("rtmr_1")
}

default hardware := 97

hardware := 2 if input["tdx"].tcb_status == "UpToDate"

default configuration := 36

configuration := 2 if {
	debug := input.tdx.td_attributes.debug
	debug == false
	regex.match(`^[0-9a-f]{16}$`, input.tdx.quote.body.xfam)
	{id | id := input.tdx.advisory_ids[_]} & {"INTEL-SA-00837"} == set()
}

kernel_is_known if {
	some event in input.tdx.uefi_event_logs
	"File(kernel)" in event.details.device_paths
	event.digests[_].digest == query_reference_value("kernel")
}

trust_claims := {"executables": executables, "hardware": hardware, "configuration": configuration, "file-system": 0}

images := [image | image := input.init_data_claims.containers[_].image]

extensions := [{"name": "ear.example", "key": -18, "value": object.union_n([found, {"n": count(images)}])}]

found := {"images": images} if {
	count(images) > 0
} else := {}
"""


def _asked(policy: str, data: Any, given: Any, rule: str, reference: dict[str, Any]) -> Any:
    """Ask regorus with the host function that Trustee gives its policies, null for what is missing."""
    engine = regorus.Engine()
    engine.add_extension("query_reference_value", 1, reference.get)
    engine.add_policy("policy.rego", policy)
    engine.add_data_json(json.dumps(data))
    engine.set_input_json(json.dumps(given))
    found = json.loads(engine.eval_query_as_json(f"data.policy.{rule}"))
    return found["result"][0]["expressions"][0]["value"] if found.get("result") else None


def _events(kernel: str) -> list[dict[str, Any]]:
    return [{"details": {"device_paths": ["File(kernel)"]}, "digests": [{"digest": kernel}]}, {"details": {}}]


@pytest.mark.parametrize("policy", [load_default("attestation"), IDIOMS], ids=["default", "idioms"])
@pytest.mark.parametrize("tee", ["tdx", "sgx"])
async def test_attestation_policies(engine: PolicyEngine, attest: Attest, tee: str, policy: str) -> None:
    await engine.validate(policy, "attestation")
    for faults in ((), ("debug",), ("expired-collateral",)):
        appraisal = attest(tee, *faults)
        measured = appraisal.evidence.measurements
        right: dict[str, Any] = {name: [value] for name, value in measured.items()}
        references: list[dict[str, Any]] = [right, {}, {**right, "kernel": "aa"}, {**right, "mr_td": ["00"]}]
        references += [{key: value for key, value in right.items() if key != "mr_enclave"}]
        references += [{**references[-1], "isv_svn": minimum} for minimum in (0, "1", ["0", 1], [])]
        references += [{key: value[0] for key, value in right.items()}]
        for reference in references:
            given = policy_input(appraisal, {"nonce": "é"}, init_data_claims={"containers": [{"image": "a"}]})
            if tee == "tdx":
                given["tdx"]["uefi_event_logs"] = _events("aa")
            found = await engine.trust_claims(policy, input=given, reference_values=reference)
            oracle = _asked(policy, {"reference": reference}, given, "trust_claims", reference)
            assert {name: found.vector[name] for name in oracle} == oracle
            extensions = _asked(policy, {"reference": reference}, given, "extensions", reference) or []
            assert found.extensions == {each["name"]: each["value"] for each in extensions}


@pytest.mark.parametrize(
    "token",
    [
        {"submods": {"cpu0": {"ear.status": "affirming"}}},
        {"submods": {"cpu0": {"ear.status": "affirming"}, "gpu0": {"ear.status": "warning"}}},
        {"submods": {"cpu0": {}}},
        {"submods": {}},
        {},
    ],
)
async def test_the_resource_policy(engine: PolicyEngine, token: dict[str, Any]) -> None:
    policy = load_default("resource")
    for plugin in ("resource", "other"):
        data: dict[str, Any] = {"plugin": plugin, "resource-path": ["a", "b", "c"], "query": {}}
        assert await engine.allow(policy, data=data, input=token) is _asked(policy, data, token, "allow", {})
