"""What came out of a run: errors of its best model on the test set, plots, a report, and a summary of the run."""

from __future__ import annotations

import json
import platform
from typing import Any

import numpy as np
import torch

from atomsml import __version__
from atomsml.io import write_atomically
from atomsml.modelfile import load, model_hash, read_metadata
from atomsml.potential import evaluate
from atomsml.training.loader import Loader
from atomsml.training.loggers import read_metrics
from atomsml.training.metrics import Collected, ErrorTable
from atomsml.training.plots import learning_curves, parity_plot
from atomsml.training.report import ReportFacts, write_report
from atomsml.training.run import EVALUATION_BATCH, Run


def judge(run: Run) -> dict[str, Any]:
    """Evaluate the best model of a finished run, draw and write everything that people look at.

    Returns:
        what summary.json holds: the errors on the test set, or on the validation set where there is no test set.
    """
    folder = run.folder
    name = "test" if run.splits.test is not None else "valid"
    errors, collected = _predict_all(run, name)
    rows = read_metrics(folder / "metrics.jsonl")
    learning_curves(rows, folder / "learning_curves.png")
    parity_plot(collected, folder / "parity.png")
    model = folder / "model.safetensors"
    about = read_metadata(model)
    result = {
        "model": {"file": str(model), "sha256": model_hash(model), "parameters": about["parameters"]},
        "set": name,
        "errors": errors.table(),
        "errors_by_element": errors.by_element(),
        "references": about["references"],
        "references_kind": run.references_kind,
        "data": run.splits.counts(),
        "warnings": list(run.splits.warnings),
        "steps": run.state.step,
        "epochs": run.state.epoch,
        "minutes": run.state.minutes,
        "seed": run.config.seed,
        "device": str(run.device),
        "processes": run.world.size,
        "threads": torch.get_num_threads(),
        "versions": {
            "atomsml": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(result, indent=1, allow_nan=False)
    write_atomically(folder / "summary.json", lambda beside: beside.write_text(text + "\n", encoding="utf-8"))
    write_report(folder, report_facts(run, result, rows, collected))
    return result


def report_facts(run: Run, result: dict[str, Any], rows: list[dict[str, Any]], collected: Collected) -> ReportFacts:
    raise NotImplementedError


def _predict_all(run: Run, name: str) -> tuple[ErrorTable, Collected]:
    """Errors of the best model on a set, and the labels beside the predictions."""
    dataset = run.splits.named()[name]
    potential = load(run.folder / "model.safetensors", run.device)
    types = dataset.config_types.astype(str)
    errors, parts = ErrorTable(np.unique(types).tolist(), dataset.elements), []
    for graph, indices in Loader(dataset, potential.cutoff, EVALUATION_BATCH, 0).in_order():
        prediction = evaluate(potential, graph.to(run.device), stress=run.stress)
        errors.add(prediction, graph, types[indices].tolist())
        parts.append(Collected.from_batch(prediction, graph, types[indices].tolist()))
    return errors, Collected.concatenate(parts)
