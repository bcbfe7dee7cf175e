"""The only user of onnxruntime: sessions, inputs made to tell, comparison of outputs."""
