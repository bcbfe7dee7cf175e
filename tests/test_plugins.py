"""Rules of other packages for operators that nobody here knows.

They give groups, factors, resynchronisation and verification.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.rules.__main__ import main as write_rules

from .helpers import builders

PLUGIN = Path(__file__).parent / "plugin"
"""A package with rules as it lies on the path once it is installed."""
KERNELS = """
import numpy as np
from onnxruntime_extensions import PyCustomOpDef, get_library_path, onnx_op
from scipy.special import erf

FLOAT = PyCustomOpDef.dt_float


@onnx_op(op_type="my.domain::ScaledGelu", inputs=[FLOAT], outputs=[FLOAT])
def scaled_gelu(x):
    return (3 * x * (1 + erf(x / 2**0.5)) / 2).astype(np.float32)


@onnx_op(
    op_type="my.domain::StridedConv",
    inputs=[FLOAT, FLOAT],
    outputs=[FLOAT],
    attrs={"stride": PyCustomOpDef.dt_int64},
)
def strided_convolution(x, w, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return np.einsum("bihwkl,oikl->bohw", windows, w).astype(np.float32)


@onnx_op(
    op_type="my.domain::ScaledRelu",
    inputs=[FLOAT],
    outputs=[FLOAT],
    attrs={"alpha": PyCustomOpDef.dt_float},
)
def scaled_relu(x, alpha):
    return (alpha * np.maximum(x, 0)).astype(np.float32)
"""


def build(activation: str = "ScaledGelu") -> onnx.ModelProto:
    """A convolution of six channels, an activation, another convolution and a head."""
    rng = np.random.default_rng(0)
    shapes = {"a": (6, 2, 3, 3), "b": (7, 6, 1, 1), "c": (7, 3)}
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    given = {"alpha": 2.0} if activation == "ScaledRelu" else {}
    nodes = [
        helper.make_node("StridedConv", ["x", "a"], ["h"], domain="my.domain", stride=2),
        helper.make_node(activation, ["h"], ["i"], domain="my.domain", **given),
        helper.make_node("Conv", ["i", "b"], ["j"]),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("GlobalAveragePool", ["k"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "plugged",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(code: str, folder: Path, plugin: bool = True) -> str:
    """What a fresh process prints, with the plug-in on its path."""
    here = Path(lady.__file__).parent.parent
    paths = [str(here), *([str(PLUGIN)] if plugin else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with a model for each activation."""
    for activation in ("ScaledGelu", "ScaledRelu"):
        onnx.save(build(activation), tmp_path / f"{activation}.onnx")
    return tmp_path


JOB = """
import json, sys
import lady_onnx as lady
from lady_onnx.rules.__main__ import main as write_rules
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.scaling.walk import find_scalings
{kernels}
name = "{name}.onnx"
graph = load_graph(name)
analysis = analyse_graph(graph)
symmetry = lady.find_groups(name)
scalings = find_scalings(graph, analysis, symmetry.groups)
shuffled = lady.permute(name, 1)
result = lady.resync(name, shuffled.model, verify="{verify}", custom_ops={library})
print(json.dumps({{
    "sizes": sorted(g.size for g in symmetry.groups),
    "factors": {{g.slots[0].initializer: len(scalings[g.id].scales) for g in symmetry.groups}},
    "exact": result.exact,
    "preserved": [result.outputs_preserved, result.verified_by],
    "verdict": lady.check(name, shuffled.model).verdict,
    "unknown": symmetry.unknown_operators,
}}))
"""


@pytest.mark.parametrize(("activation", "free"), [("ScaledGelu", 0), ("ScaledRelu", 1)])
def test_an_installed_package_adds_operators(activation: str, free: int, models: Path) -> None:
    """Its kernels run in onnxruntime; a Gelu lets no factor pass, a ReLU a positive one."""
    pytest.importorskip("onnxruntime_extensions")
    code = JOB.format(
        kernels=KERNELS, name=activation, verify="run", library="[get_library_path()]"
    )
    found = json.loads(run(code, models).splitlines()[-1])
    assert found["sizes"] == [6, 7]
    assert found["factors"] == {"a": free, "b": 1}
    assert found["exact"]
    assert found["preserved"] == [True, "run"]
    assert found["verdict"] == "permuted"
    assert found["unknown"] == []


def test_without_the_package_its_operators_pin_what_they_touch(models: Path) -> None:
    code = "import lady_onnx as lady; print(lady.find_groups('ScaledGelu.onnx').to_dict())"
    found = eval(run(code, models, plugin=False))
    assert [g["size"] for g in found["groups"]] == []
    assert found["unknown_operators"] == ["my.domain.ScaledGelu", "my.domain.StridedConv"]


def test_a_file_of_rules_on_the_command_line(models: Path) -> None:
    asked = "import sys; from lady_onnx.cli.main import main; sys.exit(main({!r}))"
    groups = ["groups", "ScaledGelu.onnx", "--json"]
    plain = json.loads(run(asked.format(groups), models, plugin=False))
    assert plain["unknown_operators"] == ["my.domain.ScaledGelu", "my.domain.StridedConv"]
    given = [*groups, "--rules", str(PLUGIN / "my_rules.py")]
    found = json.loads(run(asked.format(given), models, plugin=False))
    assert sorted(g["size"] for g in found["groups"]) == [6, 7]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "no such file"),
        ("1 / 0\n", "line 1: division by zero"),
        (
            "import lady_onnx.rules as r\n\nr.register('Conv')(len)\n",
            "line 3: operator ai.onnx.Conv",
        ),
        ("def (\n", "invalid syntax"),
        ("import sys; sys.exit(0)\n", "line 1: 0"),
    ],
)
def test_a_file_that_is_no_rules(text: str | None, what: str, tmp_path: Path) -> None:
    from lady_onnx.rules import load_rules_file

    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(lady.LadyError, match=what) as caught:
        load_rules_file(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
def test_a_broken_package_is_left_out(error: str, tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lady_onnx.rules]\nx = broken_rules\n")
    (tmp_path / "broken_rules.py").write_text(f"raise {error}('not\\ntoday')\n")
    code = (
        "import logging, sys; logging.basicConfig(stream=sys.stdout); sys.path.insert(0, '.');"
        "import lady_onnx.rules as r; print(r.find_rule('', 'Conv') is not None);"
        "print(r.find_rule('my', 'Odd'), r.find_rule('my', 'Odder'))"
    )
    lines = run(code, tmp_path, plugin=False).splitlines()
    # other packages are looked at once, where an operator has no rule
    assert lines[0] == "True"
    assert "broken: its rules are not loaded (not today)" in lines[1]
    assert lines[2] == "None None"
    assert len(lines) == 3


FAULTY = {
    "an order that is none": "r.register('Odd', domain='my')(lambda node: None)",
    "a law that raises": "r.register('Odd', domain='my', law=lambda node: 1 / 0)(order)",
    "a law of other operands": "r.register('Odd', domain='my', law=Monomial((1.0, -1.0)))(order)",
    "a shape that raises": "r.register('Odd', domain='my', shape=lambda node: [][0])(order)",
    "a law that ends the process": "r.register('Odd', domain='my', law=lambda node: exit())(order)",
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_rule_pins_or_is_refused(fault: str, tmp_path: Path) -> None:
    """Neither a traceback, nor an exit code that says yes."""
    head = "import lady_onnx.rules as r\nfrom lady_onnx.rules.laws import Monomial\n"
    order = "def order(node):\n    return r.Elementwise()\n"
    (tmp_path / "mine.py").write_text(head + order + FAULTY[fault] + "\n")
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Odd", ["h"], ["i"], domain="my"),
        helper.make_node("MatMul", ["i", "b"], ["out"]),
    ]
    shapes = {"a": (3, 6), "b": (6, 2)}
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    model = builders.build(nodes, weights, {"x": [2, 3]})
    model.opset_import.append(helper.make_opsetid("my", 1))
    onnx.save(model, tmp_path / "a.onnx")
    weights["a"] = weights["a"] + np.float32(1)
    other = builders.build(nodes, weights, {"x": [2, 3]})
    other.opset_import.append(helper.make_opsetid("my", 1))
    onnx.save(other, tmp_path / "b.onnx")
    for asked in (["groups", "a.onnx"], ["check", "a.onnx", "b.onnx"]):
        command = [sys.executable, "-m", "lady_onnx", *asked, "--rules", "mine.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode in ((0, 2) if asked[0] == "groups" else (1, 2))
        assert "Traceback" not in done.stderr


def test_a_library_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "ops.so"
    file.write_bytes(b"no library")
    model = build()
    del model.opset_import[1:]
    nodes = [n for n in model.graph.node if not n.domain]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.node[0].input[0] = "x"
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    with pytest.raises(lady.LadyError, match=r"ops\.so: no library of operators"):
        lady.verify(model, model, custom_ops=[str(file)])


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("Conv", ["# operands: X, W, B", 'yield "Conv", [w(C), w(C)], {}, 22, None, []']),
        ("com.microsoft::QLinearWhere", ['domain="com.microsoft"', '("QLinearWhere", MAP, [w(C)']),
    ],
)
def test_the_beginning_of_a_rule_is_written_from_the_schema(
    operator: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_rules(["new", operator]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in said)
    assert write_rules(["new", operator, "--into", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.py")
    compile(file.read_text(), str(file), "exec")
    assert write_rules(["new", operator, "--into", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_beginning_of_a_rule_of_no_operator(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_rules(["new", "Convv"]) == 2
    assert "did you mean 'Conv'?" in capsys.readouterr().err
