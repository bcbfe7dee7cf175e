"""The command line: it parses, calls once and prints."""
