"""Maps that mix the units of a group, and that the structure lets pass.

Where nothing but sums stands between the weights that make units and those that read them, the
function depends on the product of both alone: an invertible map on the one side is undone by its
inverse on the other. In a head that is so for queries against keys, and for values against outputs.
Linear bottlenecks and residual streams are such places, too. A stream that norms read lets only
rotations pass, because those keep its length.

`straight` finds the groups, `maps` undoes invertible maps, `rotations` undoes rotations of streams,
and `fits` measures maps.

Sources: Ganju et al. 2018; arXiv 2506.22712 (generalised linear mode connectivity).
"""
