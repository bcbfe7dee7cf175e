"""Two files of one network: whether they are one program, and which weight is which."""
