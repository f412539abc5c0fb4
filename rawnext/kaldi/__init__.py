# SPDX-License-Identifier: Apache-2.0
"""Kaldi's files: tables, archives, and the journal of what a job has written."""
