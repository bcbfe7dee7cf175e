"""Maps that mix the units of a group, and that the structure lets pass.

Where nothing but sums stands between the weights that make units and those that read them, the
function depends on the product of both alone: an invertible map on the one side is undone by its
inverse on the other. Queries against keys and values against outputs in a head, linear bottlenecks
and residual streams are such places.

`straight` finds the groups, `maps` undoes invertible maps, `rotations` undoes rotations of streams,
and `fits` measures maps.

Sources: Ganju et al. 2018; arXiv 2506.22712 (generalised linear mode connectivity).
"""
