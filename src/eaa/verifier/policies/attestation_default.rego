# SPDX-License-Identifier: Apache-2.0
# The attestation policy that applies until the owner sets another one: nothing is trusted that no reference value names.
#
# input            what the TEE says, after its evidence was authenticated
# trust_claims     the AR4SI trustworthiness vector: 2..31 affirms, 32..95 warns, 96..127 contraindicates
# query_reference_value(name)   the owner's reference value; undefined when there is none, so that no rule can hold by it
package policy

import rego.v1

# 33: executables are loaded that nobody recognises.
default executables := 33

# 97: the hardware or its firmware is not recognised.
default hardware := 97

# 36: what the configuration is cannot be told.
default configuration := 36

trust_claims := {
	"instance-identity": 0,
	"configuration": configuration,
	"executables": executables,
	"file-system": 0,
	"hardware": hardware,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

# 3 for executables: only approved executables were loaded during boot.
executables := 3 if tdx_software

executables := 3 if sgx_software

executables := 3 if snp_software

executables := 3 if tpm_software

executables := 3 if az_snp_software

executables := 3 if az_tdx_software

# 2 for hardware: genuine and supported, with every known update.
hardware := 2 if {
	intel_td(input.tdx)
	up_to_date(input.tdx)
}

hardware := 2 if {
	sgx_quote
	up_to_date(input.sgx)
}

# AMD rates no TCB: the least that the owner accepts of it is checked before any policy is asked.
hardware := 2 if is_string(input.snp.product)

# The key is the one of a TPM that the owner trusts; that is checked before any policy is asked, too.
hardware := 2 if is_string(input.tpm.ak_public)

hardware := 2 if is_string(az_snp.product)

hardware := 2 if {
	intel_td(az_tdx)
	up_to_date(az_tdx)
}

# 2 for configuration: known and approved. Other attributes than debug are checked before any policy is asked.
configuration := 2 if input.tdx.td_attributes.debug == false

configuration := 2 if input.sgx.debug == false

configuration := 2 if input.snp.policy_debug_allowed == false

configuration := 2 if az_snp.policy_debug_allowed == "false"

configuration := 2 if az_tdx.td_attributes.debug == false

# 0: a bare TPM makes no statement about how its machine is configured, beyond the registers.
configuration := 0 if is_string(input.tpm.ak_public)

up_to_date(tee) if {
	tee.tcb_status == "UpToDate"
	tee.collateral_expiration_status == "0"
}

##### TDX: an Intel quote of a TD, its firmware (mr_td), its virtual hardware and firmware settings (rtmr_0), its boot
##### loader and kernel (rtmr_1), its command line and initial disk (rtmr_2). rtmr_3 is open to the guest and pins nothing.

intel_td(td) if {
	td.quote.header.tee_type == "81000000"
	td.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
}

tdx_software if {
	input.tdx.quote.body.mr_td in listed(query_reference_value("mr_td"))
	input.tdx.quote.body.rtmr_0 in listed(query_reference_value("rtmr_0"))
	input.tdx.quote.body.rtmr_1 in listed(query_reference_value("rtmr_1"))
	input.tdx.quote.body.rtmr_2 in listed(query_reference_value("rtmr_2"))
}

##### SGX: exactly this enclave, or any enclave of this signer and product from a minimum SVN on.

sgx_quote if input.sgx.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"

sgx_software if input.sgx.body.mr_enclave in listed(query_reference_value("mr_enclave"))

sgx_software if {
	not sgx_enclave_is_pinned
	input.sgx.body.mr_signer in listed(query_reference_value("mr_signer"))
	input.sgx.isv_prod_id in numbers(query_reference_value("isv_prod_id"))

	# Exactly one number is a minimum; with several it would be a guess which one is meant.
	minimum := numbers(query_reference_value("isv_svn"))
	count(minimum) == 1
	every least in minimum {
		input.sgx.isv_svn >= least
	}
}

# With a reference value for mr_enclave, the signer alone does not do.
sgx_enclave_is_pinned if count(listed(query_reference_value("mr_enclave"))) > 0

##### SEV-SNP: the initial memory and registers. What is loaded later is pinned only as far as the initial memory measures it.

snp_software if input.snp.measurement in listed(query_reference_value("measurement"))

##### TPM: the firmware (PCR 0), which no hardware vouches for; the program that it starts (PCR 4); and what that loads: PCR 9
##### (GRUB) where it has a reference value, else PCR 11 (unified kernel images). In the SHA-384 bank if only that is expected.

tpm_software if {
	input.tpm.pcr00 in listed(query_reference_value("pcr00"))
	boot(input.tpm)
}

tpm_software if {
	not pcr04_is_expected
	input.tpm.sha384_pcr00 in listed(query_reference_value("sha384_pcr00"))
	input.tpm.sha384_pcr04 in listed(query_reference_value("sha384_pcr04"))
	sha384_loaded
}

boot(pcrs) if {
	pcrs.pcr04 in listed(query_reference_value("pcr04"))
	loaded(pcrs)
}

loaded(pcrs) if pcrs.pcr09 in listed(query_reference_value("pcr09"))

loaded(pcrs) if {
	not pcr09_is_expected
	pcrs.pcr11 in listed(query_reference_value("pcr11"))
}

sha384_loaded if input.tpm.sha384_pcr09 in listed(query_reference_value("sha384_pcr09"))

sha384_loaded if {
	not sha384_pcr09_is_expected
	input.tpm.sha384_pcr11 in listed(query_reference_value("sha384_pcr11"))
}

pcr04_is_expected if query_reference_value("pcr04")

pcr09_is_expected if query_reference_value("pcr09")

sha384_pcr09_is_expected if query_reference_value("sha384_pcr09")

##### Azure: the paravisor by the hardware's measurement, and the boot that it does not cover by its vTPM's PCRs.

az_snp := input["az-snp-vtpm"]

az_tdx := input["az-tdx-vtpm"]

az_snp_software if {
	hex(az_snp.measurement) in listed(query_reference_value("measurement"))
	boot(az_snp.tpm)
}

az_tdx_software if {
	az_tdx.quote.body.mr_td in listed(query_reference_value("mr_td"))
	boot(az_tdx.tpm)
}

# The measurement is in Base64 in these claims and hex in reference values: two characters for every three digits, no padding.
hex(base64) := concat("", [digits |
	some pair in regex.find_n("..", base64, -1)
	digits := sprintf("%03x", [(64 * sextet(pair, 0)) + sextet(pair, 1)])
])

sextet(pair, i) := indexof("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", substring(pair, i, 1))

##### A reference value is a list or a single value; numbers may be written as text.

listed(value) := value if is_array(value)

listed(value) := [value] if is_string(value)

listed(value) := [value] if is_number(value)

numbers(value) := {to_number(each) | some each in listed(value)}
