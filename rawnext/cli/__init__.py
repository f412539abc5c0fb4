# SPDX-License-Identifier: Apache-2.0
"""The program `rawnext`: main.py is its entry, the other modules are its subcommands."""
