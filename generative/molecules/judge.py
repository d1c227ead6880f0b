"""What came out of a run: molecules drawn from its model, how many of them are stable, and a summary."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch

from atomsml import __version__
from atomsml.generative.molecules.metrics.edm import VERSION, stability
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.sampling import (
    batches_of_like_size,
    default_max_pairs,
    sample_molecules,
    sample_seed,
)
from atomsml.generative.molecules.training import MoleculeRun
from atomsml.io import write_atomically
from atomsml.modelfile import model_hash


def judge(run: MoleculeRun) -> dict[str, Any]:
    """Draw molecules from the model of a finished run; writes samples.extxyz and summary.json.

    Returns:
        what summary.json holds: the run, and the fractions of stable atoms and molecules by the rule of EDM.

    Raises:
        OSError: a file cannot be written.
    """
    file = run.folder / "model.safetensors"
    result = {
        "model": str(file),
        "sha256": model_hash(file),
        "architecture": run.config.model,
        "parameters": sum(p.numel() for p in run.state.model.parameters()),
        "steps": run.state.step,
        "epochs": run.state.epoch,
        "minutes": round(run.state.minutes, 2),
        "best_valid_loss": run.state.best_loss,
        "seed": run.config.seed,
        "device": str(run.device),
        "threads": torch.get_num_threads(),
        "data": run.counts(),
        "warnings": list(run.train.warnings),
        "versions": {
            "atomsml": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "ase": ase.__version__,
            "python": platform.python_version(),
        },
    }
    if run.config.judge.molecules:
        result["samples"] = _judge_samples(run, file)
    text = json.dumps(result, indent=1) + "\n"
    write_atomically(run.folder / "summary.json", lambda beside: beside.write_text(text, encoding="utf-8"))
    return result


def _judge_samples(run: MoleculeRun, file: Path) -> dict[str, Any]:
    import ase.io

    how, model = run.config.judge, load_generator(file, run.device)
    requests = draw_requests(model, [sample_seed(run.config.seed, i) for i in range(how.molecules)])
    batches = batches_of_like_size([request.num_atoms for request in requests], default_max_pairs(run.device))
    drawn: dict[int, ase.Atoms] = {}
    steps, sampler = how.steps or model.default_steps, how.sampler or model.default_sampler
    for progress in sample_molecules(model, requests, batches, steps, sampler):
        drawn |= progress.drawn
    images = [drawn[i] for i in sorted(drawn)]
    write_atomically(run.folder / "samples.extxyz", lambda beside: ase.io.write(beside, images, format="extxyz"))
    found = stability(images)
    return {
        "molecules": how.molecules,
        "steps": steps,
        "sampler": sampler,
        "suite": VERSION,
        "stable_atoms": found.atom_fraction,
        "stable_molecules": found.molecule_fraction,
    }
