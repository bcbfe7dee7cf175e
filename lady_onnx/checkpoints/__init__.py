"""Checkpoints in place of models: their tensors bound to the weights of one graph."""
