# SPDX-License-Identifier: Apache-2.0
# What the shipped resource policy promises. `eaa policy test` runs this beside resource_default.rego.
package policy_test

import rego.v1

import data.policy

affirming := {"submods": {"cpu0": {"ear.status": "affirming"}}}

test_affirming_may_have_a_resource if {
	policy.allow with input as affirming with data.plugin as "resource"
}

test_every_submod_has_to_be_affirming if {
	not policy.allow with input as {"submods": {"cpu0": {"ear.status": "affirming"}, "gpu0": {"ear.status": "warning"}}}
		with data.plugin as "resource"
}

test_no_other_status_will_do if {
	every status in ["none", "warning", "contraindicated", "AFFIRMING", true, null] {
		not policy.allow with input as {"submods": {"cpu0": {"ear.status": status}}} with data.plugin as "resource"
	}
}

test_nothing_attested_is_denied if {
	not policy.allow with input as {"submods": {}} with data.plugin as "resource"
	not policy.allow with input as {} with data.plugin as "resource"
	not policy.allow with data.plugin as "resource"
}

test_only_resources_are_released if {
	not policy.allow with input as affirming with data.plugin as "other"
	not policy.allow with input as affirming
}
