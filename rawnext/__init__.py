# SPDX-License-Identifier: Apache-2.0
"""Speaker verification on raw waveforms of any length."""
