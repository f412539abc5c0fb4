# SPDX-License-Identifier: Apache-2.0
"""From embeddings to scores and error rates, with numpy and scipy only: scoring machines need no torch."""
