"""Matching two models that share a part: its groups, and which of its units are copies."""
