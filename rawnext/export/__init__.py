# SPDX-License-Identifier: Apache-2.0
"""A trained model as a file for others: ONNX, safetensors with a model card."""
