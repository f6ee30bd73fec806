# SPDX-License-Identifier: Apache-2.0
# What the shipped attestation policy promises. `eaa policy test` runs this beside attestation_default.rego.
package policy_test

import rego.v1

import data.policy

intel := "939a7233f79c4ca9940a0db3957f0607"

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

booted := {"pcr00": "p0", "pcr04": "p4", "pcr09": "p9", "pcr11": "pb"}

booted_384 := {"sha384_pcr00": "q0", "sha384_pcr04": "q4", "sha384_pcr09": "q9", "sha384_pcr11": "qb"}

machine := {"tpm": object.union({"ak_public": "MA=="}, object.union(booted, booted_384))}

by_kernel := {"pcr00": "p0", "pcr04": ["p4"], "pcr11": ["pb"]}

by_loader := {"pcr00": "p0", "pcr04": ["p4"], "pcr09": ["p9"]}

by_kernel_384 := {"sha384_pcr00": "q0", "sha384_pcr04": ["q4"], "sha384_pcr11": ["qb"]}

by_loader_384 := {"sha384_pcr00": "q0", "sha384_pcr04": ["q4"], "sha384_pcr09": ["q9"]}

##### TDX

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

##### SEV-SNP

guest := {"snp": {"measurement": "aa", "product": "Genoa", "policy_debug_allowed": false}}

guest_but(change) := {"snp": object.union(guest.snp, change)}

test_guest_that_is_expected_is_affirmed if {
	claims := policy.trust_claims with input as guest with data.reference as {"measurement": ["ff", "aa"]}
	claims.executables == 3
	claims.hardware == 2
	claims.configuration == 2
}

test_guest_of_other_software_is_not_recognised if {
	every expected in [{}, {"measurement": []}, {"measurement": ["other"]}, {"host_data": ["aa"]}] {
		policy.executables == 33 with input as guest with data.reference as expected
	}
}

test_guest_on_no_known_product_is_not_recognised if {
	policy.hardware == 97 with input as {"snp": object.remove(guest.snp, ["product"])}
	policy.hardware == 97 with input as guest_but({"product": null})
}

test_guest_that_allows_debug_is_no_known_configuration if {
	policy.configuration == 36 with input as guest_but({"policy_debug_allowed": true})
	policy.configuration == 36 with input as {"snp": object.remove(guest.snp, ["policy_debug_allowed"])}
}

##### TPM

test_machine_that_is_expected_is_affirmed if {
	every expected in [by_kernel, by_loader, by_kernel_384, by_loader_384] {
		claims := policy.trust_claims with input as machine with data.reference as expected
		claims.executables == 3
		claims.hardware == 2
		claims.configuration == 0
	}
}

test_machine_needs_a_reference_value_for_firmware_and_boot if {
	every name in ["pcr00", "pcr04", "pcr11"] {
		policy.executables == 33 with input as machine with data.reference as object.remove(by_kernel, [name])
		policy.executables == 33 with input as machine
			with data.reference as object.union(by_kernel, {name: ["other"]})
	}
	every name in ["pcr00", "pcr04", "pcr09"] {
		policy.executables == 33 with input as machine with data.reference as object.remove(by_loader, [name])
		policy.executables == 33 with input as machine
			with data.reference as object.union(by_loader, {name: ["other"]})
	}
}

test_machine_needs_them_in_the_longer_bank_too if {
	every name in ["sha384_pcr00", "sha384_pcr04", "sha384_pcr11"] {
		policy.executables == 33 with input as machine with data.reference as object.remove(by_kernel_384, [name])
		policy.executables == 33 with input as machine
			with data.reference as object.union(by_kernel_384, {name: ["other"]})
	}
	every name in ["sha384_pcr00", "sha384_pcr04", "sha384_pcr09"] {
		policy.executables == 33 with input as machine with data.reference as object.remove(by_loader_384, [name])
		policy.executables == 33 with input as machine
			with data.reference as object.union(by_loader_384, {name: ["other"]})
	}
}

test_machine_that_a_loader_is_expected_of_is_not_known_by_its_kernel if {
	policy.executables == 33 with input as machine
		with data.reference as object.union(by_kernel, {"pcr09": ["other"]})
	policy.executables == 33 with input as machine
		with data.reference as object.union(by_kernel_384, {"sha384_pcr09": ["other"]})
}

test_one_bank_does_not_stand_in_for_the_other if {
	policy.executables == 33 with input as machine
		with data.reference as object.union(by_kernel_384, {"pcr04": ["other"]})
	policy.executables == 33 with input as machine
		with data.reference as {"pcr00": "p0", "pcr11": "pb", "sha384_pcr04": ["q4"]}
}

test_machine_without_a_key_is_not_recognised if {
	claims := policy.trust_claims with input as {"tpm": booted} with data.reference as by_kernel
	claims.hardware == 97
	claims.configuration == 36
}

##### Azure

on_azure := {"measurement": ["00108310518720928b30d38f411493515597"], "mr_td": ["aa"], "pcr04": ["p4"], "pcr11": ["pb"]}

az_guest := {"az-snp-vtpm": {
	"measurement": "ABCDEFGHIJKLMNOPQRSTUVWX",
	"product": "Milan",
	"policy_debug_allowed": "false",
	"tpm": booted,
}}

az_td := {"az-tdx-vtpm": object.union(td.tdx, {"tpm": booted})}

az_guest_but(change) := {"az-snp-vtpm": object.union(az_guest["az-snp-vtpm"], change)}

az_td_but(change) := {"az-tdx-vtpm": object.union(az_td["az-tdx-vtpm"], change)}

test_azure_vm_that_is_expected_is_affirmed if {
	by_boot_loader := object.union(object.remove(on_azure, ["pcr11"]), {"pcr09": "p9"})
	every vm in [az_guest, az_td] {
		claims := policy.trust_claims with input as vm with data.reference as on_azure
		claims.executables == 3
		claims.hardware == 2
		claims.configuration == 2
		policy.executables == 3 with input as vm with data.reference as by_boot_loader
	}
}

test_azure_vm_needs_a_reference_value_for_paravisor_and_boot if {
	every name in ["measurement", "pcr04", "pcr11"] {
		policy.executables == 33 with input as az_guest with data.reference as object.remove(on_azure, [name])
		policy.executables == 33 with input as az_guest
			with data.reference as object.union(on_azure, {name: ["other"]})
	}
	every name in ["mr_td", "pcr04", "pcr11"] {
		policy.executables == 33 with input as az_td with data.reference as object.remove(on_azure, [name])
		policy.executables == 33 with input as az_td
			with data.reference as object.union(on_azure, {name: ["other"]})
	}
}

test_azure_vm_has_no_bank_but_sha256 if {
	every vm in [az_guest, az_td] {
		policy.executables == 33 with input as vm
			with data.reference as object.union(by_kernel_384, object.remove(on_azure, ["pcr04"]))
	}
}

test_azure_measurement_is_read_from_base64 if {
	digits := "fbf000fbf14e3b2a6e1faf7fbfffd76df8e7aefc000fffbfdd34d34fffffbefbefbeaaaaaaf2efbdefbeffffff5d75d7"
	claims := {"measurement": "+/AA+/FOOypuH69/v//XbfjnrvwAD/+/3TTTT///vvvvvqqqqvLvve++////XXXX"}
	policy.executables == 3 with input as az_guest_but(claims)
		with data.reference as object.union(on_azure, {"measurement": digits})
}

test_azure_hardware_that_is_not_genuine_or_current_is_not_recognised if {
	policy.hardware == 97 with input as az_guest_but({"product": null})
	policy.hardware == 97 with input as az_td_but({"tcb_status": "OutOfDate"})
	policy.hardware == 97 with input as az_td_but({"quote": {"header": {"tee_type": "81000000", "vendor_id": "00"}}})
}

test_azure_vm_in_debug_mode_is_no_known_configuration if {
	policy.configuration == 36 with input as az_guest_but({"policy_debug_allowed": "true"})
	policy.configuration == 36 with input as az_td_but({"td_attributes": {"debug": true}})
}

##### Whatever it does not know

test_nothing_affirms_nothing if {
	every given in [null, {}, {"sample": {"svn": "1", "debug": false}}, {"tdx": {}}, {"sgx": {}}, {"snp": {}}, {"tpm": {}}, {"az-snp-vtpm": {}}, {"az-tdx-vtpm": {}}] {
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
