"""From the facts of a graph to its groups of interchangeable units."""
