"""When two messages of ONNX files say the same, field by field."""
