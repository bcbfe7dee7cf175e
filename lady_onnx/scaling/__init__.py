"""By what the units of a group may be multiplied without changing what the model computes."""
