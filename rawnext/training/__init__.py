# SPDX-License-Identifier: Apache-2.0
"""Training: batches, augmentation, the task, the loop, checkpoints."""
