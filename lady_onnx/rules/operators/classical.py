"""Operators of classical machine learning, the domain `ai.onnx.ml`.

Spec: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from ...errors import UnknownStructureError
from ..kinds import Elementwise, Equation, Kind, Movement, Node, require_rank
from ..registry import register, register_pinned

ML = "ai.onnx.ml"

register_pinned(
    "weights that are attributes, in the order of the features",
    *("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor", "TreeEnsemble"),
    *("TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    domain=ML,
)
register_pinned(
    "text or a map, whose entries are no elements of an axis",
    *("CastMap", "CategoryMapper", "DictVectorizer", "LabelEncoder", "ZipMap"),
    domain=ML,
)
register_pinned("features that are chosen by their places", "ArrayFeatureExtractor", domain=ML)
register_pinned("a place for each class, in their order", "OneHotEncoder", domain=ML)


@register("Binarizer", domain=ML)
def describe_threshold(node: Node) -> Kind:
    """Every element alone."""
    return Elementwise()


@register("Scaler", "Imputer", domain=ML)
def describe_feature_scaling(node: Node) -> Kind:
    """Every element alone; features that have numbers of their own, as attributes, are pinned."""
    lists = ("offset", "scale", "imputed_value_floats", "imputed_value_int64s")
    if all(len(node.attributes.get(name, ())) <= 1 for name in lists):
        return Elementwise()
    names = " ".join(f"x{k}" for k in range(require_rank(node) - 1))
    return Equation(f"{names} [c] -> {names} c")


@register("Normalizer", domain=ML)
def describe_feature_norm(node: Node) -> Kind:
    """Normalised over the last axis."""
    names = " ".join(f"x{k}" for k in range(require_rank(node) - 1))
    return Equation(f"{names} {{c}} -> {names} c")


@register("FeatureVectorizer", domain=ML)
def describe_feature_rows(node: Node) -> Kind:
    """Concatenates features; pinned where a number says that a part of them is taken."""
    widths = [None if shape is None else shape[-1] for shape in node.shapes]
    if widths != node.attributes.get("inputdimensions"):
        raise UnknownStructureError("a part of the features")
    return Movement([(tuple(range(len(node.shapes))), [])], 1)
