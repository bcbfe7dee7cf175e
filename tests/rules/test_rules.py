"""The registry of rules, and the claims of laws: onnxruntime computes what f(c x) is."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lady_onnx import rules
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.dataflow.plainsteps import list_plain_steps
from lady_onnx.errors import UnknownStructureError
from lady_onnx.graph.loading import load_graph
from lady_onnx.rules import laws
from lady_onnx.rules.plain_forms import PLAIN_FORMS

OPSET = 20
TOLERANCE = 1e-5
"""The rounding of single precision, as a share of the largest result."""
ROUNDS = 3
"""The number of random inputs that a law is held to."""


# ---- the registry


def describe(node: rules.Node) -> rules.Kind:
    """Every element alone."""
    return rules.Elementwise()


@pytest.mark.usefixtures("registry")
def test_the_page_on_new_operators_runs() -> None:
    done = doctest.testmod(rules)
    assert done.attempted > 20
    assert not done.failed


@pytest.mark.usefixtures("registry")
def test_a_rule_is_found_by_its_domain_and_name() -> None:
    assert rules.find_rule("my.domain", "Twice") is None
    assert rules.register("Twice", domain="my.domain", law=laws.Linear())(describe) is describe
    rule = rules.find_rule("my.domain", "Twice")
    assert rule is not None
    assert (rule.domain, rule.operator, rule.order) == ("my.domain", "Twice", describe)
    assert rule.law == laws.Linear()
    assert rules.find_rule("", "Twice") is None
    assert "| my.domain.Twice | Every element alone |" in rules.make_table().splitlines()


def test_the_default_domain_has_two_names() -> None:
    assert rules.find_rule("", "Conv") is rules.find_rule("ai.onnx", "Conv") is not None


def test_every_rule_stands_under_its_own_name() -> None:
    for (domain, operator), rule in rules.REGISTRY.items():
        assert (rule.domain, rule.operator) == (domain, operator)
        assert rules.find_rule(domain, operator) is rule
        assert (rule.order.__doc__ or "").strip(), operator


@pytest.mark.usefixtures("registry")
def test_a_second_declaration_is_an_error() -> None:
    before = rules.find_rule("", "Relu")
    for again in (
        lambda: rules.register("Relu")(describe),
        lambda: rules.register_equation("a.. -> a..", "Relu"),
        lambda: rules.register_pinned("nothing is known of it", "Relu"),
    ):
        with pytest.raises(ValueError, match=r"operator ai\.onnx\.Relu has a rule already"):
            again()
    assert rules.find_rule("", "Relu") is before
    with pytest.raises(ValueError, match=r"two plain forms for com\.microsoft FusedConv"):
        rules.register_plain_form("FusedConv", "X W")(lambda w: w["X"])


def test_operators_that_pin_all_have_a_reason() -> None:
    pinned = {
        key: doc.removeprefix("pinned: ")
        for key, rule in rules.REGISTRY.items()
        if (doc := rule.order.__doc__ or "").startswith("pinned: ")
    }
    assert len(pinned) > 10
    for key, reason in pinned.items():
        with pytest.raises(UnknownStructureError) as raised:
            rules.REGISTRY[key].order(None)  # type: ignore[arg-type]
        assert str(raised.value) == reason
        assert reason


def test_rules_beside_a_plain_form_say_why() -> None:
    both = rules.REGISTRY.keys() & PLAIN_FORMS.keys()
    silent = [key for key in both if "plain form" not in (rules.REGISTRY[key].order.__doc__ or "")]
    assert not silent


# ---- the claims of laws


@dataclass(frozen=True)
class Case:
    """A node whose law is held to onnxruntime.

    Attributes:
        operator: the operator's name.
        shapes: the shapes of the operands that are drawn at random.
        constants: the operands behind them; None for one that is left out.
        attributes: the node's attributes.
        low, high: the range that operands are drawn from.
        opset: the version of the default domain.
        first_constants: operands in front of those that are drawn.
    """

    operator: str
    shapes: Sequence[tuple[int, ...]] = ((3, 5),)
    constants: Sequence[np.ndarray | None] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    low: float = -3.0
    high: float = 3.0
    opset: int = OPSET
    first_constants: Sequence[np.ndarray] = ()

    @property
    def places(self) -> range:
        """The positions of the operands that are drawn."""
        first = len(self.first_constants)
        return range(first, first + len(self.shapes))

    def build(self) -> onnx.ModelProto:
        """A model of the one node."""
        given = [*self.first_constants, *[None] * len(self.shapes), *self.constants]
        drawn = [f"x{k}" for k in self.places]
        weights = [
            numpy_helper.from_array(a, f"x{k}") for k, a in enumerate(given) if a is not None
        ]
        known = {*drawn, *(w.name for w in weights)}
        names = [f"x{k}" if f"x{k}" in known else "" for k in range(len(given))]
        node = helper.make_node(self.operator, names, ["y"], **self.attributes)
        inputs = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in zip(drawn, self.shapes, strict=True)
        ]
        result = onnx.ValueInfoProto(name="y")
        graph = helper.make_graph([node], "case", inputs, [result], weights)
        imports = [helper.make_opsetid("", self.opset)]
        bare = helper.make_model(graph, opset_imports=imports, ir_version=8)
        made = onnx.shape_inference.infer_shapes(bare).graph.output[0]
        graph.output[0].CopyFrom(made)
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    def draw(self, seed: int) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        return [generator.uniform(self.low, self.high, s).astype(np.float32) for s in self.shapes]


MAP = ((2, 3, 6, 6),)
POSITIVE: dict[str, Any] = {"low": 0.5, "high": 3.0}
KERNEL: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1]}
AXES = np.array([1], np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


CASES = [
    *(Case(o) for o in ("Asinh", "Atan", "Erf", "Sin", "Sinh", "Softsign", "Tan", "Tanh")),
    *(Case(o, low=-0.9, high=0.9) for o in ("Asin", "Atanh")),
    *(Case(o, low=-3.0, high=3.0) for o in ("Round", "Shrink")),
    *(Case(o) for o in ("Cos", "Cosh", "Abs", "Sign", "Sigmoid", "Relu", "LeakyRelu", "Neg")),
    *(Case(o, ((3, 5), (5,), (3, 1))) for o in ("Max", "Min", "Mean", "Sum")),
    *(Case(o, ((3, 5), (5,))) for o in ("Add", "Sub")),
    Case("PRelu", constants=[np.linspace(-1, 2, 5, dtype=np.float32)]),
    Case("Clip", constants=[number(0)]),
    Case("Clip", constants=[number(0), number(2)]),
    Case("Clip", attributes={"min": 0.0}, opset=6),
    Case("HardSigmoid", attributes={"alpha": 0.3}),
    Case("Identity"),
    Case("Cast", attributes={"to": TensorProto.DOUBLE}),
    Case("CastLike", constants=[np.zeros(1, np.float64)]),
    Case("Dropout"),
    Case("Div", ((3, 5), (5,)), **POSITIVE),
    Case("Reciprocal", **POSITIVE),
    Case("Sqrt", **POSITIVE),
    *(Case("Pow", constants=[number(p)], **POSITIVE) for p in (2, 3, -1, 0.5)),
    Case("Where", ((3, 5), (5,)), first_constants=[np.arange(15).reshape(3, 5) % 2 > 0]),
    Case("MaxPool", MAP, attributes=KERNEL),
    Case("LpPool", MAP, attributes=KERNEL),
    Case("AveragePool", MAP, attributes={**KERNEL, "pads": [1, 1, 0, 0]}),
    *(Case(o, MAP) for o in ("GlobalMaxPool", "GlobalLpPool", "GlobalAveragePool")),
    *(Case(f"Reduce{o}", MAP, constants=[AXES]) for o in ("L1", "L2", "Max", "Min", "Mean", "Sum")),
    Case("Resize", MAP, [None, np.array([1, 1, 2, 1.5], np.float32)], {"mode": "linear"}),
    Case("Upsample", MAP, [np.array([1, 1, 2, 2], np.float32)], opset=9),
    Case("Pad", constants=[np.array([0, 1, 2, 0], np.int64)]),
]
OTHER_LAWS = {
    "BatchNormalization",
    "Conv",
    "GRU",
    "Gemm",
    "LSTM",
    "LayerNormalization",
    "LpNormalization",
    "RMSNormalization",
    "RNN",
}
"""Operators whose law depends on the node and is of none of the kinds that are held to here."""
CLAIMS = (
    laws.Absolute,
    laws.Even,
    laws.Linear,
    laws.Monomial,
    laws.Odd,
    laws.PositivelyHomogeneous,
    laws.Reflective,
    laws.Selection,
    laws.Signum,
)
"""The laws that speak of a single node's f(c x)."""
Run = Callable[[Sequence[np.ndarray]], np.ndarray]


def find_law(case: Case) -> tuple[laws.Law | None, rules.Kind | None]:
    """The law of the node of a case, and its kind, as the analysis of a model has them."""
    graph = load_graph(case.build())
    plain = list_plain_steps(graph, analyse_graph(graph))
    ((node, kind),) = plain.steps
    return plain.find_law(node), kind


def start(case: Case) -> Run:
    """A function that computes the first result of a case with onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        case.build().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(operands: Sequence[np.ndarray]) -> np.ndarray:
        feeds = {f"x{k}": x for k, x in zip(case.places, operands, strict=True)}
        (result,) = session.run(["y"], feeds)
        return np.asarray(result)

    return run


def is_near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * float(np.abs(b).max())))


def scale(operands: Sequence[np.ndarray], factors: Sequence[float]) -> list[np.ndarray]:
    return [np.float32(c) * x for x, c in zip(operands, factors, strict=True)]


def do_hold(
    law: laws.Law, kind: rules.Kind | None, case: Case, run: Run, x: Sequence[np.ndarray]
) -> bool:
    """Does onnxruntime compute what a law says of f(c x)?"""
    count, y = len(x), run(x)
    # an equation's law speaks of its first operand
    every = case.places[:1] if isinstance(kind, rules.Equation) else case.places

    def passes(operands: Sequence[int] | None, c: float) -> bool:
        chosen = every if operands is None else operands
        factors = [c if k in chosen else 1.0 for k in case.places]
        return is_near(run(scale(x, factors)), c * y)

    match law:
        case laws.Odd():
            return is_near(run(scale(x, [-1] * count)), -y)
        case laws.Even():
            return is_near(run(scale(x, [-1] * count)), y)
        case laws.Absolute():
            return all(is_near(run(scale(x, [c] * count)), abs(c) * y) for c in (2.5, -1.5))
        case laws.Signum():
            return all(is_near(run(scale(x, [c] * count)), np.sign(c) * y) for c in (2.5, -1.5))
        case laws.PositivelyHomogeneous(operands=operands):
            return all(passes(operands, c) for c in (2.5, 0.3))
        case laws.Selection(operands=operands):
            return all(passes(operands, c) for c in (2.5, -1.5))
        case laws.Linear():
            return all(passes(law.operands, c) for c in (2.5, -1.5)) and is_sum(law, kind, run, x)
        case laws.Monomial(powers=powers):
            sizes = [2.5, 0.3, 1.7][: len(powers)]
            factor = np.prod([c**p for c, p in zip(sizes, powers, strict=True)])
            return is_near(run(scale(x, [*sizes, 1, 1][:count])), factor * y)
        case laws.Reflective(top=top, is_input_shifted=is_shifted):
            reflected = [np.float32(top) - x[0]] if is_shifted else [-x[0]]
            return is_near(run(reflected), top - y)
    raise AssertionError(law)


def is_sum(law: laws.Linear, kind: rules.Kind | None, run: Run, x: Sequence[np.ndarray]) -> bool:
    """Are results the sums that a linear law says, with the coefficients that it gives?"""
    other = [np.roll(a, 1) for a in x]
    if not is_near(run([a + b for a, b in zip(x, other, strict=True)]), run(x) + run(other)):
        return False
    if law.is_mean and not is_near(run([np.ones_like(a) for a in x]), np.ones(1)):
        return False
    if not isinstance(kind, rules.Elementwise):
        return True
    chosen = range(len(x)) if law.operands is None else law.operands
    coefficients = law.coefficients or (1.0,) * len(chosen)
    total = sum(c * x[k] for k, c in zip(chosen, coefficients, strict=True))
    return is_near(run(x), np.asarray(total))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_a_law_says_what_onnxruntime_computes(case: Case) -> None:
    law, kind = find_law(case)
    assert isinstance(law, CLAIMS)
    run = start(case)
    for seed in range(ROUNDS):
        assert do_hold(law, kind, case, run, case.draw(seed))


def test_every_such_law_has_a_case() -> None:
    tried = {case.operator for case in CASES}
    claimed = {
        operator
        for (_, operator), rule in rules.REGISTRY.items()
        if isinstance(rule.law, CLAIMS) or (callable(rule.law) and operator not in OTHER_LAWS)
    }
    assert claimed == tried


@pytest.mark.parametrize(
    "law",
    [
        laws.Absolute(),
        laws.Even(),
        laws.Linear(),
        laws.Monomial((1.0,)),
        laws.Odd(),
        laws.PositivelyHomogeneous(),
        laws.Reflective(1.0),
        laws.Reflective(2.0, is_input_shifted=True),
        laws.Selection((0,)),
        laws.Signum(),
    ],
    ids=repr,
)
def test_a_wrong_law_is_noticed(law: laws.Law) -> None:
    case = Case("Exp")
    assert not do_hold(law, rules.Elementwise(), case, start(case), case.draw(0))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("Clip", constants=[number(-1)]), "a bound that is not zero"),
        (Case("Clip", constants=[None, number(2)]), "no bound at zero"),
        (Case("Cast", attributes={"to": TensorProto.INT32}), "fractions are cut off"),
        (Case("CastLike", constants=[np.zeros(1, np.int64)]), "fractions are cut off"),
        (Case("HardSigmoid", attributes={"beta": 0.4}), "not one half at zero"),
        (Case("Pow", constants=[np.arange(5, dtype=np.float32)]), "several exponents"),
        (Case("Pad", constants=[np.array([0, 1, 2, 0], np.int64), number(1)]), "ones beside units"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.operator,
)
def test_nodes_to_which_a_law_does_not_apply_have_none(case: Case, reason: str) -> None:
    assert find_law(case)[0] is None


def test_both_names_of_the_default_domain_are_one() -> None:
    with pytest.raises(ValueError, match=r"ai\.onnx\.Conv has a rule already"):
        rules.register("Conv", domain="ai.onnx")(lambda node: rules.Elementwise())


def test_operators_are_registered_together_or_not_at_all() -> None:
    with pytest.raises(ValueError, match=r"ai\.onnx\.Relu has a rule already"):
        rules.register("NeverSeen", "Relu")(lambda node: rules.Elementwise())
    assert rules.find_rule("", "NeverSeen") is None
