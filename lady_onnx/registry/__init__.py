"""What a model is among many, whatever the order of its units and the way its file is written."""
