"""Prints the table of all operators: `python -m lady_onnx.rules`."""

from . import make_table

print("# Operators and their rules\n\nNames as in `lady_onnx/rules/__init__.py`.\n")
print(make_table())
