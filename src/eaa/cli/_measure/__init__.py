# SPDX-License-Identifier: Apache-2.0
"""The commands of ``eaa measure``, one file per kind of measurement."""
