"""The main job and the commands: pairing, alignment, diagnosis, result."""
