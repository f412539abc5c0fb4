# SPDX-License-Identifier: Apache-2.0
"""What a recipe scores (plan), the commands that make it (tasks), and which of them need not run again (records)."""
