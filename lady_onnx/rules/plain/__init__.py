"""The plain forms of fused operators, one operator family a module."""
