# SPDX-License-Identifier: Apache-2.0
"""What ``eaa demo`` is made of: container images, processes, the two sides, and the story."""
