"""The command line: one module a command, with the declaration of its arguments beside it.

`main` finds the command and loads its module alone. A command parses, calls the library once and
prints; it computes nothing itself.
"""
