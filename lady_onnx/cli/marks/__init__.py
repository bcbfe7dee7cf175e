"""The commands that write into models, and read from them, whose they are."""
