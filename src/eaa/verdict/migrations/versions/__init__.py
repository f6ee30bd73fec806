# SPDX-License-Identifier: Apache-2.0
"""One file per step, named by its number. A step that was released is never edited; the next one is added."""
