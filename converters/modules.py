"""PyTorch modules in memory: a suspect's units are put back, and it stays a module.

Needs the extras `torch` and `checkpoints`.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lady_onnx.checkpoints.architecture import Architecture
from lady_onnx.errors import LadyError, to_one_line
from lady_onnx.pipeline.result import Resync
from lady_onnx.pipeline.resynchronization import resync


@dataclass(frozen=True)
class ResyncedModule:
    """A module whose units are in the reference's order.

    Attributes:
        module: a copy of the suspect with its units put back.
        resync: what was found; weights go by the names of the export.
    """

    module: nn.Module
    resync: Resync


def resync_modules(
    reference: nn.Module,
    suspect: nn.Module,
    example: Tensor | Sequence[Tensor],
    *,
    ignored: Sequence[str] = (),
    **options: Any,
) -> ResyncedModule:
    """Find where the units of a module went in another one, and put them back.

    The reference is exported once, in evaluation mode. The suspect is not run, and neither is
    changed.

    Args:
        reference: the module that is trusted.
        suspect: a module of the same class, whose state has the same names.
        example: an input of the reference, or several.
        ignored: patterns of tensors that may differ although no output depends on them.
        options: as for `lady_onnx.resync`.

    Raises:
        LadyError: the reference cannot be exported, or the state of the suspect is not one of its
            architecture.
    """
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = folder / "reference.onnx"
        _export(reference, inputs, graph)
        for side, module in (("reference", reference), ("suspect", suspect)):
            torch.save(module.state_dict(), folder / f"{side}.pt")
        architecture = Architecture(graph, folder / "reference.pt", ignored)
        ours, theirs = (architecture.load(folder / f"{s}.pt") for s in ("reference", "suspect"))
        found = resync(ours.graph, theirs.graph, **options)
        architecture.save(found.graph, theirs.checkpoint, folder / "result.pt")
        state = torch.load(folder / "result.pt", weights_only=True)
    module = copy.deepcopy(suspect)
    module.load_state_dict(state)
    return ResyncedModule(module, found)


def _export(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Export a module with its weights as they are, without norms folded into them."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                str(path),
                dynamo=False,
                opset_version=17,
                do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE,
            )
    except Exception as error:  # noqa: BLE001
        # the exporter has errors of its own for what it does not know
        what = f"cannot be exported ({to_one_line(error)})"
        raise LadyError(
            f"{type(module).__name__}: {what}; write it with torch.onnx.export"
        ) from None
    finally:
        for part, mode in modes.items():
            part.training = mode
