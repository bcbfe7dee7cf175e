"""The commands that write and read marks and stamps."""
