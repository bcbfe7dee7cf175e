"""Total equality: do two graphs say one program, and which weight of one is which of the other?"""
