"""Pairs of models that compute different things and were once accepted as one."""
