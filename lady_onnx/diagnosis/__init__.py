"""What else was done to the weights of a suspect. Arrays and groups, no ONNX."""
