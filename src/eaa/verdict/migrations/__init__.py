# SPDX-License-Identifier: Apache-2.0
"""The steps to the newest tables of :mod:`eaa.verdict.schema`, applied by :mod:`eaa.storage.migrate`."""
