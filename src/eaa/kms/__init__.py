# SPDX-License-Identifier: Apache-2.0
"""Key management: where the root key lives, behind one small interface with drivers."""

from eaa.kms.local import LocalKeyManager
from eaa.kms.manager import KeyManager, KeyManagerDriver, UnsealError, load_key_manager

__all__ = ["KeyManager", "KeyManagerDriver", "LocalKeyManager", "UnsealError", "load_key_manager"]
