"""What came out of a run: the errors of its best model, a report with plots, and a summary for other programs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from atomsml.modelfile import load, read_metadata
from atomsml.potential import evaluate
from atomsml.training.base_config import write_config
from atomsml.training.evaluation.metrics import Collected, ErrorTable, Table
from atomsml.training.evaluation.report import ReportFacts, write_report
from atomsml.training.evaluation.summary import run_facts, write_summary
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
    facts = run_facts(run)
    name = "test" if run.splits.test is not None else "valid"
    errors, collected = _predict_all(run, name)
    result = write_summary(
        run,
        {
            **facts,
            "set": name,
            "errors": _plain(errors.table()),
            "errors_by_element": _plain(errors.by_element()),
            "references": read_metadata(facts["model"])["references"],
            "references_kind": run.references_kind,
            "data": run.splits.counts(),
            "warnings": list(run.warnings),
            "failed": [vars(each) for each in run.splits.refused],
        },
    )
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
