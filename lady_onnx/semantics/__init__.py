"""What ONNX messages say, and when two of them say the same; no graph is walked here."""
