"""The models of workloads.py as files: those that mace-torch saves, and what `atomsml convert` makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.shared.peers import peer_python
from benchmarks.shared.workloads import MODELS, Model

UNPICKLED = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}  # mace-torch unpickles constants of e3nn


def write_models(folder: Path) -> None:
    """Let mace-torch save the models of workloads.py."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / model.file).exists() for model in MODELS):
        return
    command = [peer_python(), "-W", "ignore", "-m", "benchmarks.shared.peer_mace", folder]
    subprocess.run(command, env=os.environ | UNPICKLED, check=True)


def both_files(model: Model, folder: Path) -> tuple[Path, Path]:
    """The same model for atomsml and for mace-torch."""
    write_models(folder)
    official = folder / model.file
    ours = official.with_suffix(".safetensors")
    if not ours.exists():
        subprocess.run([sys.executable, "-m", "atomsml.cli", "convert", official, "-o", ours], check=True)
    return ours, official


def in_float32(official: Path) -> Path:
    """The same file with its numbers in float32, which mace_eval_configs wants to find so."""
    single = official.with_suffix(".float32.model")
    if not single.exists():
        code = "import sys, torch; torch.save(torch.load(sys.argv[1]).float(), sys.argv[2])"
        subprocess.run(
            [peer_python(), "-W", "ignore", "-c", code, official, single], env=os.environ | UNPICKLED, check=True
        )
    return single
