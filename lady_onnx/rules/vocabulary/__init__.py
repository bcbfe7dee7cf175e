"""Words that all packages may use: the names of operators, sets of them, and element types."""
