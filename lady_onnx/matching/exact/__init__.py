"""Finds the order of an exact copy from a few of its elements, and proves it by all of them."""
