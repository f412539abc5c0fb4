# SPDX-License-Identifier: Apache-2.0
"""The program `rawnext`: one file for each subcommand or pair of them, `main.py` strings them together."""
