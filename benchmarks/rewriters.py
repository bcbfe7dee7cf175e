"""Honest tools: each writes another file of a model that computes the same.

    python benchmarks/rewriters.py REWRITE SEED SOURCE TARGET [SOURCE TARGET ...]

Runs in a process of its own, with the interpreter that has the tool, since tools crash. Prints one
JSON list: for every pair an empty text, or why there is no target. `rewrites.py` calls it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

Random = np.random.Generator
Rewriter = Callable[[ModelProto, Random], ModelProto]
PROVIDERS = ["CPUExecutionProvider"]

NOTHING = "nothing to do"
IDENTITY_SHARE = 0.05
"""So large a part of the operands is read through an Identity."""


class NothingToDoError(Exception):
    """The model has nothing that the rewrite changes."""


def slim(model: ModelProto, rng: Random) -> ModelProto:
    import onnxslim

    return onnxslim.slim(model)


def simplify(model: ModelProto, rng: Random) -> ModelProto:
    import onnxsim

    return onnxsim.simplify(model)[0]


def operate(model: ModelProto, rng: Random) -> ModelProto:
    import onnx_graphsurgeon as gs

    graph = gs.import_onnx(model).cleanup().toposort().fold_constants().cleanup()
    return gs.export_onnx(graph)


def opset_of(model: ModelProto) -> int:
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def find_newest_opset() -> int:
    """The newest version of the operators that this onnxruntime runs."""
    import onnxruntime as ort

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [result])
    ort.set_default_logger_severity(4)
    for version in range(onnx.defs.onnx_opset_version(), 0, -1):
        opset = helper.make_opsetid("", version)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        try:
            ort.InferenceSession(model.SerializeToString(), providers=PROVIDERS)
        except Exception:  # noqa: BLE001 - onnxruntime has no error class of its own for this
            continue
        return version
    raise RuntimeError("onnxruntime runs no version of the operators")


def convert_to_newest(model: ModelProto, rng: Random) -> ModelProto:
    import onnx.version_converter

    return onnx.version_converter.convert_version(model, find_newest_opset())


def convert_by(step: int) -> Rewriter:
    def convert(model: ModelProto, rng: Random) -> ModelProto:
        import onnx.version_converter

        return onnx.version_converter.convert_version(model, opset_of(model) + step)

    return convert


def optimise(level: str) -> Rewriter:
    """Saved by onnxruntime's optimiser."""

    def save(model: ModelProto, rng: Random) -> ModelProto:
        import tempfile

        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = getattr(levels, f"ORT_ENABLE_{level}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.onnx"
            options.optimized_model_filepath = str(path)
            ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)
            return onnx.load(path)

    return save


def optimise_by_script(model: ModelProto, rng: Random) -> ModelProto:
    import onnxscript.optimizer
    import onnxscript.rewriter

    return onnxscript.rewriter.rewrite(onnxscript.optimizer.optimize(model))


def pass_through_ir(model: ModelProto, rng: Random) -> ModelProto:
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    passes = ir.passes.Sequential(
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
    )
    return ir.to_proto(passes(ir.from_proto(model)).model)


def add_defaults(model: ModelProto, rng: Random) -> ModelProto:
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    return ir.to_proto(common.AddDefaultAttributesPass()(ir.from_proto(model)).model)


def optimise_for_conversion(model: ModelProto, rng: Random) -> ModelProto:
    import onnxconverter_common.optimizer

    return onnxconverter_common.optimizer.optimize_onnx_model(model)


def optimise_by_passes(model: ModelProto, rng: Random) -> ModelProto:
    import onnxoptimizer

    return onnxoptimizer.optimize(model)


def infer_shapes(model: ModelProto, rng: Random) -> ModelProto:
    import onnx.shape_inference

    return onnx.shape_inference.infer_shapes(model)


def insert_identities(model: ModelProto, rng: Random) -> ModelProto:
    nodes = []
    for k, node in enumerate(model.graph.node):
        for i, name in enumerate(node.input):
            if name and rng.random() < IDENTITY_SHARE:
                node.input[i] = f"same/{k}/{i}"
                nodes.append(helper.make_node("Identity", [name], [node.input[i]]))
        nodes.append(node)
    return with_nodes(model, nodes)


def with_nodes(model: ModelProto, nodes: list[onnx.NodeProto]) -> ModelProto:
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def write_constants(model: ModelProto, rng: Random) -> ModelProto:
    """Every weight is a Constant node."""
    # a weight that is an input too has to stay one
    taken = {v.name for v in model.graph.input}
    moved = [t for t in model.graph.initializer if t.name not in taken]
    if not moved:
        raise NothingToDoError
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in moved]
    model = with_nodes(model, [*constants, *model.graph.node])
    for tensor in moved:
        model.graph.initializer.remove(tensor)
    return model


def lift_constants(model: ModelProto, rng: Random) -> ModelProto:
    """Every Constant node is a weight."""
    constants = [n for n in model.graph.node if n.op_type == "Constant"]
    lifted = [n for n in constants if n.attribute[0].type == AttributeProto.TENSOR]
    for node in lifted:
        model.graph.initializer.add().CopyFrom(node.attribute[0].t)
        model.graph.initializer[-1].name = node.output[0]
    if not lifted:
        raise NothingToDoError
    names = {n.output[0] for n in lifted}
    return with_nodes(model, [n for n in model.graph.node if n.output[0] not in names])


def disguise(name: str) -> Rewriter:
    """A rewrite of the tests."""

    def change(model: ModelProto, rng: Random) -> ModelProto:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        from tests.helpers import disguises, messages

        try:
            return getattr(disguises, name)(model, rng)
        except messages.NotPossibleError as error:
            raise NothingToDoError from error

    return change


def keep(model: ModelProto, rng: Random) -> ModelProto:
    return model


EXTERNAL = "external data"
REWRITERS: dict[str, Rewriter] = {
    "onnxslim": slim,
    "onnxsim": simplify,
    "graphsurgeon": operate,
    "opset newest": convert_to_newest,
    "opset -1": convert_by(-1),
    "opset -2": convert_by(-2),
    "onnxruntime basic": optimise("BASIC"),
    "onnxruntime extended": optimise("EXTENDED"),
    "onnxruntime all": optimise("ALL"),
    "onnxscript": optimise_by_script,
    "onnx-ir": pass_through_ir,
    "default attributes": add_defaults,
    "onnxconverter-common": optimise_for_conversion,
    "onnxoptimizer": optimise_by_passes,
    "shape inference": infer_shapes,
    "identity": insert_identities,
    "sharing": disguise("share"),
    "unsharing": disguise("unshare"),
    "constants": write_constants,
    "initializers": lift_constants,
    EXTERNAL: keep,
    "reordering": disguise("reorder"),
    "renaming": disguise("rename"),
}
"""By name. All but one are changes of the graph; that one is in how the file is saved."""
FOREIGN = ("onnxslim", "onnxsim", "onnxconverter-common", "onnxoptimizer")
"""Tools that are in none of the project's extras."""


def rewrite(name: str, seed: int, source: Path, target: Path) -> str:
    """Writes the target, and says why not where it cannot."""
    try:
        model = REWRITERS[name](onnx.load(source), np.random.default_rng(seed))
        if name == EXTERNAL:
            place = f"{target.name}.data"
            convert_model_to_external_data(model, location=place, size_threshold=0)
        onnx.save(model, target)
    except NothingToDoError:
        return NOTHING
    except Exception as error:  # noqa: BLE001 - tools raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def main() -> None:
    name, seed, *paths = sys.argv[1:]
    pairs = zip(paths[::2], paths[1::2], strict=True)
    found = [rewrite(name, int(seed), Path(source), Path(target)) for source, target in pairs]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
