"""The commands that say what a model is, whatever the order of its units."""
