# SPDX-License-Identifier: Apache-2.0
"""Evaluations as rows, tables, tests, pages and pictures."""
