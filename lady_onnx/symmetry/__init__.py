"""From the facts of a graph to its groups of interchangeable units.

`finder.extract_groups` is the entry and lists the stages. The package reads the facts of
`lady_onnx.dataflow`; it knows neither operators nor the values of weights.
"""
