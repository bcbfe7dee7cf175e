"""What the rows of weights of two groups of units say about each other: scores, noise, odds."""
