# SPDX-License-Identifier: Apache-2.0
"""What a trained system does, in figures and pictures."""
