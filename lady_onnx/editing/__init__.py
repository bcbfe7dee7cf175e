"""What changes a model: permutations of its units, and the attacks of the paper."""
