# SPDX-License-Identifier: Apache-2.0
"""From embeddings to scores, measures and decisions; numpy and scipy only."""
