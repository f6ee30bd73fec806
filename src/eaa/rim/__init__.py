# SPDX-License-Identifier: Apache-2.0
"""Reference integrity manifests of others: CoRIM, TCG's RIM in SWID, and Trustee's messages that carry them."""
