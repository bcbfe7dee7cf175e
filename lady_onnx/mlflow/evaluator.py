"""An evaluator for `mlflow.models.evaluate`: what is the model to a reference?"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models.evaluation import EvaluationResult, ModelEvaluator

from ..errors import UsageError
from ..graph.loading import load_graph
from ..pipeline.checking import check
from ..registry.policy import Policy
from ..report.page import draw_page
from ..report.record import make_record

FOLDER = "lady-onnx"
"""The folder of the run that reports go to."""


class LadyEvaluator(ModelEvaluator):
    """Logs the verdict on a model, with its reports, to the run.

    Its configuration has `reference`, an address or a path; `accept` and `min_recognised`, as a
    policy has them; and `suspect`, where MLflow does not know the model's address itself.
    """

    @classmethod
    def can_evaluate(cls, *, model_type: str, evaluator_config: Any, **kwargs: Any) -> bool:
        """Tell whether a reference is named."""
        return bool(evaluator_config and evaluator_config.get("reference"))

    def evaluate(
        self,
        *,
        run_id: str,
        evaluator_config: dict[str, Any],
        model_id: str | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Check a model against the reference.

        Returns:
            Metrics `lady-onnx/accepted` (1 or 0), `lady-onnx/recognised`, and, where units were
            matched, `lady-onnx/psi_estimate`.

        Raises:
            UsageError: MLflow does not know the model's address, and no `suspect` is given.
            LadyError: a model cannot be read.
        """
        suspect = evaluator_config.get("suspect") or (model_id and f"models:/{model_id}")
        if not suspect:
            raise UsageError("the model has no address; give it as `suspect` in evaluator_config")
        rules: dict[str, Any] = {
            name: evaluator_config[name]
            for name in ("accept", "min_recognised")
            if name in evaluator_config
        }
        policy = Policy(**rules)
        graphs = load_graph(evaluator_config["reference"]), load_graph(suspect)
        found = check(*graphs)
        metrics = {"accepted": float(policy.passes(found)), "recognised": found.recognised}
        if found.resync is not None:
            metrics["psi_estimate"] = found.resync.psi_estimate
        metrics = {f"{FOLDER}/{name}": value for name, value in metrics.items()}
        client = mlflow.MlflowClient()
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        client.set_tag(run_id, f"{FOLDER}.verdict", found.verdict)
        sides = dict(zip(("reference", "suspect"), graphs, strict=True))
        record = make_record("check", rules, {n: sorted(g.files) for n, g in sides.items()})
        with tempfile.TemporaryDirectory() as folder:
            text = json.dumps({**found.to_dict(), "accepted": policy.passes(found)}, indent=1)
            (Path(folder) / "report.json").write_text(text, encoding="utf-8")
            page = draw_page(found, record, *graphs)
            (Path(folder) / "report.html").write_text(page, "utf-8", errors="backslashreplace")
            client.log_artifacts(run_id, folder, FOLDER)
        return EvaluationResult(metrics, {}, run_id)
