"""Two files of one network: are they one program, and which weight is which?"""
