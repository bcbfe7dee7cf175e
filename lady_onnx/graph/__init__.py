"""ONNX files in and out: weights by name, nodes, checks of what a file says, external data.

Nothing here knows groups or rules. A `Graph` (`model`) is made by `load_graph` (`loading`).
"""
