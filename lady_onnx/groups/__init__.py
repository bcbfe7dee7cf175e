"""The words that all other packages use: groups, slots, pins, permutations and factors."""
