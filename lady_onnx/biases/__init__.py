"""Finds biases that may change without changing what a model computes, and proves it.

`search` is the way in: it proposes biases and pairs of them. `gain_walk` follows what was added to
them through the graph, by one transfer function a kind (`elementwise`, `equations`, `movements`),
and `shares` knows the weighted means on the way.
"""
