# SPDX-License-Identifier: Apache-2.0
"""Steps that bring the Endorser's tables up to date."""
