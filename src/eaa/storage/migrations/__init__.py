# SPDX-License-Identifier: Apache-2.0
"""The steps from an empty database to the newest tables, applied by :mod:`eaa.storage.migrate`."""
