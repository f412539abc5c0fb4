# SPDX-License-Identifier: Apache-2.0
"""Export of trained models: ONNX, and safetensors with a model card."""
