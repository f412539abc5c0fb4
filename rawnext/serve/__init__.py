# SPDX-License-Identifier: Apache-2.0
"""A page in the browser to try a trained model with two recordings; audio stays in this machine's memory."""
