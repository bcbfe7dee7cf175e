"""Tells what the rows of two models' units say about each other: scores, noise, matches."""
