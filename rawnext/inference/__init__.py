# SPDX-License-Identifier: Apache-2.0
"""Embeddings of utterances with a trained model."""
