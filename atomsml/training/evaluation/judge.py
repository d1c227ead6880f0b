"""What came out of a run: the errors of its best model, a report with plots, and a summary for other programs."""

from __future__ import annotations

import json
import math
import platform
from typing import Any

import ase
import numpy as np
import torch

from atomsml import __version__
from atomsml.io import write_atomically
from atomsml.modelfile import load, model_hash, read_metadata
from atomsml.potential import evaluate
from atomsml.training.config import write_config
from atomsml.training.evaluation.metrics import Collected, ErrorTable, Table
from atomsml.training.evaluation.report import ReportFacts, write_report
from atomsml.training.loader import Loader
from atomsml.training.loggers import read_metrics
from atomsml.training.run import EVALUATION_BATCH, Run


def judge(run: Run) -> dict[str, Any]:
    """Evaluate the best model of a finished run and write report.html, its plots, and summary.json.

    Returns:
        what summary.json holds; its errors are those on the test set, or on the validation set where there is none.

    Raises:
        ValueError: the run ended before its first evaluation, so that there is no model.
        OSError: a file cannot be written.
    """
    model = run.folder / "model.safetensors"
    if not model.exists():
        raise ValueError(f"{run.folder}: no validation loss was finite, so that there is no model; see metrics.jsonl")
    name = "test" if run.splits.test is not None else "valid"
    errors, collected = _predict_all(run, name)
    about = read_metadata(model)
    facts = {
        "model": str(model),
        "sha256": model_hash(model),
        "architecture": about["architecture"],
        "parameters": about["parameters"],
        "steps": run.state.step,
        "epochs": run.state.epoch,
        "minutes": round(run.state.minutes, 2),
        "seed": run.config.seed,
        "device": str(run.device),
        "processes": run.world.size,
        "threads": torch.get_num_threads(),
    }
    result = {
        **facts,
        "set": name,
        "errors": _plain(errors.table()),
        "errors_by_element": _plain(errors.by_element()),
        "references": about["references"],
        "references_kind": run.references_kind,
        "data": run.splits.counts(),
        "warnings": list(run.splits.warnings),
        "versions": {
            "atomsml": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "ase": ase.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_atomically(run.folder / "summary.json", lambda beside: beside.write_text(text, encoding="utf-8"))
    write_report(
        run.folder,
        ReportFacts(
            title=run.folder.resolve().name,
            judged_on={"test": "test", "valid": "validation"}[name],
            metrics=read_metrics(run.folder / "metrics.jsonl"),
            errors=errors.table(),
            errors_by_element=errors.by_element(),
            collected=collected,
            data=result["data"],
            references=result["references"],
            references_kind=run.references_kind,
            run=facts,
            versions=result["versions"],
            config=write_config(run.config),
            warnings=result["warnings"],
        ),
    )
    return result


def _predict_all(run: Run, name: str) -> tuple[ErrorTable, Collected]:
    """Errors of the best model on a set, and the labels beside the predictions."""
    dataset = run.splits.named()[name]
    potential = load(run.folder / "model.safetensors", run.device)
    types = dataset.config_types.astype(str)
    errors, parts = ErrorTable(np.unique(types).tolist(), dataset.elements), []
    for graph, indices in Loader(dataset, potential.cutoff, EVALUATION_BATCH, seed=0).in_order():
        prediction = evaluate(potential, graph.to(run.device), stress=run.stress)
        errors.add(prediction, graph, types[indices].tolist())
        parts.append(Collected.from_batch(prediction, graph, types[indices].tolist()))
    return errors, Collected.concatenate(parts)


def _plain(table: Table) -> dict[str, dict[str, float | None]]:
    """JSON has no NaN: None instead."""
    return {
        name: {key: value if math.isfinite(value) else None for key, value in row.items()}
        for name, row in table.items()
    }
