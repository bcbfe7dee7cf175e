"""Exporters from frameworks to ONNX, and recovered orders back to framework checkpoints."""
