# SPDX-License-Identifier: Apache-2.0
"""A local web page to try a trained model with two recordings."""
