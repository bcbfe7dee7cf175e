"""The names of operators and of sets of them, and of element types: words that all packages may use."""
