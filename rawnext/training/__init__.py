# SPDX-License-Identifier: Apache-2.0
"""Training: batches, augmentation, model with losses, training loop, checkpoints."""
