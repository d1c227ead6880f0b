"""summary.json of a finished run, whatever was trained: what other programs want to know of it."""

from __future__ import annotations

import json
import math
from typing import Any

import torch

from atomsml.io import write_atomically
from atomsml.io.versions import library_versions
from atomsml.modelfile import model_hash, read_metadata
from atomsml.training.base_run import BaseRun


def run_facts(run: BaseRun[Any, Any]) -> dict[str, Any]:
    """The model of a run, and how it came about.

    Raises:
        ValueError: the run ended before its first evaluation, so that there is no model.
    """
    model = run.folder / "model.safetensors"
    if not model.exists():
        raise ValueError(f"{run.folder}: no validation loss was finite, so that there is no model; see metrics.jsonl")
    about, best = read_metadata(model), run.state.best_loss
    return {
        "model": str(model),
        "sha256": model_hash(model),
        "architecture": about["architecture"],
        "parameters": about["parameters"],
        "steps": run.state.step,
        "epochs": run.state.epoch,
        "minutes": round(run.state.minutes, 2),
        "best_valid_loss": best if math.isfinite(best) else None,
        "seed": run.config.seed,
        "device": str(run.device),
        "processes": run.world.size,
        "threads": torch.get_num_threads(),
    }


def write_summary(run: BaseRun[Any, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Write summary.json; returns what it holds: the facts and the versions of the libraries.

    Raises:
        OSError: it cannot be written.
    """
    result = {**facts, "versions": library_versions()}
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_atomically(run.folder / "summary.json", lambda beside: beside.write_text(text, encoding="utf-8"))
    return result
