"""The label engine: runs a graph on labels and collects facts about the order of its elements.

`engine` walks the nodes and asks their rules. `transfer` and its neighbours apply what a rule says
to abstract tensors; `labels` holds these tensors and the facts. `bodies` and `control_flow` run
subgraphs and functions. The groups that the facts amount to are found by `lady_onnx.symmetry`.
"""
