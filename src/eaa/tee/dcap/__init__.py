# SPDX-License-Identifier: Apache-2.0
"""Intel DCAP: what SGX and TDX share — quote envelope, PCK chain, TCB levels, QE identity."""
