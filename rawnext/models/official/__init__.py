# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of released code: `keys` renames their state dicts, `options` reads our model's options off them."""
