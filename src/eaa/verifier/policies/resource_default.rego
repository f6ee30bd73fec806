# SPDX-License-Identifier: Apache-2.0
# The resource policy that applies until the owner sets another one: a resource goes to an attester only when every
# part of its attestation result is affirming.
#
# data.plugin, data["resource-path"], data.query   the request
# input                                            the claims of the attestation token
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	count(input.submods) > 0
	every _, submod in input.submods {
		submod["ear.status"] == "affirming"
	}
}
