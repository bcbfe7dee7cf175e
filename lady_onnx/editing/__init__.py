"""What changes a model on purpose: permutations of its units, and the attacks of the paper.

Undoing such changes is the job of `lady_onnx.pipeline`.
"""
