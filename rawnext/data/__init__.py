# SPDX-License-Identifier: Apache-2.0
"""Data directories: how they are written, how their audio is read, drawn and augmented."""
