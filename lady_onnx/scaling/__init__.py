"""By what the units of a group may be multiplied without changing what the model computes.

`walk` is the way in: it follows unknown factors through the steps of a graph (`state`, `monomials`)
by one transfer function a kind (`elementwise`, `equations`, `movements`, `recurrence`), and solves
the equations that they leave (`solving`). `reflections` and `mixing` watch the walk. Which factors
units of a given suspect have is found in `lady_onnx.diagnosis`.
"""
