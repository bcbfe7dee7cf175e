"""The main job and the other public functions, each of which calls the packages below in order.

`resynchronization` has the main job with its four stages: `pairing`, `alignment`, `diagnosing` and
`result`. `checking`, `inspection` and `demonstration` are the other jobs. How units are matched and
what tampering looks like is not said here, but in `lady_onnx.matching` and `lady_onnx.diagnosis`.
"""
