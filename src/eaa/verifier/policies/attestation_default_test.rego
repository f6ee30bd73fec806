# SPDX-License-Identifier: Apache-2.0
# What the shipped attestation policy promises. `eaa policy test` runs this beside attestation_default.rego.
package policy_test

import rego.v1

import data.policy

intel := "939a7233f79c4ca9940a0db3957f0607"

##### TDX

td := {"tdx": {
	"quote": {"header": td_header, "body": td_body},
	"td_attributes": {"debug": false},
	"tcb_status": "UpToDate",
	"collateral_expiration_status": "0",
}}

td_header := {"tee_type": "81000000", "vendor_id": intel}

td_body := {"mr_td": "aa", "rtmr_0": "b0", "rtmr_1": "b1", "rtmr_2": "b2", "rtmr_3": "b3"}

td_expected := {"mr_td": ["aa", "ff"], "rtmr_0": ["b0"], "rtmr_1": "b1", "rtmr_2": ["b2"]}

td_but(change) := {"tdx": object.union(td.tdx, change)}

test_td_that_is_expected_is_affirmed if {
	claims := policy.trust_claims with input as td with data.reference as td_expected
	claims.executables == 3
	claims.hardware == 2
	claims.configuration == 2
}

test_td_needs_a_reference_value_for_each_register_but_rtmr_3 if {
	every name in ["mr_td", "rtmr_0", "rtmr_1", "rtmr_2"] {
		policy.executables == 33 with input as td with data.reference as object.remove(td_expected, [name])
	}
}

test_td_of_other_software_is_not_recognised if {
	every name in ["mr_td", "rtmr_0", "rtmr_1", "rtmr_2"] {
		policy.executables == 33 with input as td_but({"quote": {"header": td_header, "body": object.union(td_body, {name: "other"})}})
			with data.reference as td_expected
	}
}

test_td_without_any_reference_value_is_not_recognised if {
	policy.executables == 33 with input as td
}

test_td_without_the_latest_updates_is_not_recognised if {
	every status in ["OutOfDate", "SWHardeningNeeded", "Revoked", "TDRelaunchAdvised", null] {
		policy.hardware == 97 with input as td_but({"tcb_status": status}) with data.reference as td_expected
	}
}

test_td_with_expired_collateral_is_not_recognised if {
	policy.hardware == 97 with input as td_but({"collateral_expiration_status": "1"})
		with data.reference as td_expected
}

test_td_of_another_vendor_or_type_is_not_recognised if {
	policy.hardware == 97 with input as td_but({"quote": {"header": {"tee_type": "81000000", "vendor_id": "00"}, "body": td_body}})
	policy.hardware == 97 with input as td_but({"quote": {"header": {"tee_type": "00000000", "vendor_id": intel}, "body": td_body}})
}

test_td_in_debug_mode_is_no_known_configuration if {
	policy.configuration == 36 with input as td_but({"td_attributes": {"debug": true}})
		with data.reference as td_expected
}

##### SGX

enclave := {"sgx": {
	"header": {"vendor_id": intel},
	"body": {"mr_enclave": "ee", "mr_signer": "51"},
	"isv_prod_id": 7,
	"isv_svn": 3,
	"debug": false,
	"tcb_status": "UpToDate",
	"collateral_expiration_status": "0",
}}

by_signer := {"mr_signer": ["51"], "isv_prod_id": ["7"], "isv_svn": [3]}

enclave_but(change) := {"sgx": object.union(enclave.sgx, change)}

test_enclave_that_is_expected_is_affirmed if {
	claims := policy.trust_claims with input as enclave with data.reference as {"mr_enclave": ["ee"]}
	claims.executables == 3
	claims.hardware == 2
	claims.configuration == 2
}

test_enclave_may_be_known_by_its_signer if {
	policy.executables == 3 with input as enclave with data.reference as by_signer
	policy.executables == 3 with input as enclave_but({"isv_svn": 4}) with data.reference as by_signer
}

test_enclave_older_than_the_minimum_is_not_recognised if {
	policy.executables == 33 with input as enclave_but({"isv_svn": 2}) with data.reference as by_signer
}

test_several_minimums_are_none if {
	policy.executables == 33 with input as enclave
		with data.reference as object.union(by_signer, {"isv_svn": [1, 2]})
}

test_enclave_of_another_product_is_not_recognised if {
	policy.executables == 33 with input as enclave_but({"isv_prod_id": 8}) with data.reference as by_signer
}

test_signer_does_not_do_once_enclaves_are_named if {
	policy.executables == 33 with input as enclave
		with data.reference as object.union(by_signer, {"mr_enclave": ["other"]})
}

test_enclave_in_debug_mode_is_no_known_configuration if {
	policy.configuration == 36 with input as enclave_but({"debug": true})
}

##### Whatever it does not know

test_nothing_affirms_nothing if {
	every given in [null, {}, {"sample": {"svn": "1", "debug": false}}, {"tdx": {}}, {"sgx": {}}] {
		policy.trust_claims == {
			"instance-identity": 0,
			"configuration": 36,
			"executables": 33,
			"file-system": 0,
			"hardware": 97,
			"runtime-opaque": 0,
			"storage-opaque": 0,
			"sourced-data": 0,
		} with input as given with data.reference as td_expected
	}
}
