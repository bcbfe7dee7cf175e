"""Matches a suspect with other numbers of units: some were removed, inserted, cloned or split.

Three steps, a module each: `extension` brings both models to one size, where units of zeros stand
for those that a model lacks; `surplus` matches them, and says which units are missing and which
are extra, attention heads with all that lies inside them; `idle` finds the extra units that the
function does not need, and takes them out.
"""
