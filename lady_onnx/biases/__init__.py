"""Biases that may change without changing what a model computes, and the proof of it."""
