"""Names of the operators that the normal form is written in, and of those its machinery asks for.

Code outside `lady_onnx.rules` names an operator by a constant of this module. What an operator does
is said by the rules and, for whole groups of operators, by `classes`.
"""

from __future__ import annotations

# Terms that no operator computes.
INPUT = "Input"
FORMAL = "Formal"

# Operators of the normal form alone, each of which is written as plain operators in the end.
# `Scale` multiplies by one number, `Sum` and `Product` combine any number of terms of one shape,
# `Linear` is a product with a matrix and a bias, `Part` a slice along one axis, `Move` a reshape, a
# transposition and a reshape, and `Extents` a tensor of lengths.
SCALE = "Scale"
SUM = "Sum"
PRODUCT = "Product"
LINEAR = "Linear"
PART = "Part"
MOVE = "Move"
EXTENTS = "Extents"

# Arithmetic on every element alone.
ADD = "Add"
MUL = "Mul"
RECIPROCAL = "Reciprocal"
SQRT = "Sqrt"

# Layers: weighted sums.
CONV = "Conv"
CONV_TRANSPOSE = "ConvTranspose"
GEMM = "Gemm"
MAT_MUL = "MatMul"

# Normalisations that are folded into layers.
BATCH_NORMALIZATION = "BatchNormalization"

# Reductions along axes.
REDUCE_MAX = "ReduceMax"
REDUCE_MEAN = "ReduceMean"
REDUCE_MIN = "ReduceMin"
REDUCE_SUM = "ReduceSum"

# Movements of elements, and copies of them.
CONCAT = "Concat"
EXPAND = "Expand"
RESHAPE = "Reshape"
SLICE = "Slice"
TRANSPOSE = "Transpose"

# Types and shapes.
CAST = "Cast"
DROPOUT = "Dropout"
SHAPE = "Shape"
SIZE = "Size"

# Resized maps.
RESIZE = "Resize"
UPSAMPLE = "Upsample"
