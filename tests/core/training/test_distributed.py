"""Two processes take the same steps as one with the same batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atomsml.training.config import config_from_values
from atomsml.training.run import Run
from atomsml.yaml_file import read_mapping

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from atomsml.yaml_file import read_mapping
from atomsml.training.config import config_from_values
from atomsml.training.run import Run
torch.set_num_threads(1)
run = Run(config_from_values(read_mapping(sys.argv[1])), Path(sys.argv[2]))
losses = [progress.step.loss for progress in run.steps()]
run.world.close()
if run.world.is_first:
    Path(sys.argv[2], "losses.json").write_text(json.dumps([run.world.size, losses]))
"""


def test_two_processes_reach_the_losses_of_one(tmp_path: Path, water: Path, small: dict[str, Any]) -> None:
    """30 molecules, of which 5 are held out, in batches of 4: the last batch of an epoch leaves one process idle."""
    values = {
        "data": {"train": str(water), "valid": 5},
        "model_options": small,
        "batch": {"structures": 4},
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "precision": "float64",
        "max_steps": 20,
        "evaluate_epochs": 1,
    }
    config, program = tmp_path / "config.yaml", tmp_path / "program.py"
    config.write_text(json.dumps(values))
    program.write_text(PROGRAM)
    torch.set_num_threads(1)
    alone = [each.step.loss for each in Run(config_from_values(read_mapping(config)), tmp_path / "one").steps()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, str(program), str(config), str(tmp_path / "two")], check=True)
    size, together = json.loads((tmp_path / "two" / "losses.json").read_text())
    assert size == 2
    assert len(alone) == 20
    np.testing.assert_allclose(together, alone, rtol=1e-6)  # what is asked for; sums in another order differ by 1e-15
    lines = [
        [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        for folder in ("one", "two")
    ]
    for ours, theirs in zip(*lines, strict=True):
        for name in ("valid_loss", "forces_mae", "energy_rmse"):
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-6)
