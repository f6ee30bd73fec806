# SPDX-License-Identifier: Apache-2.0
"""gRPC messages and services. Everything but the ``.proto`` files is generated; regenerate, never edit."""
