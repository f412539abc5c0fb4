# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of released code: their keys under our names, and the options of our model that fits them."""
