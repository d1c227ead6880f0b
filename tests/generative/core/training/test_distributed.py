"""Two processes take the steps of one that evaluates both shares of every batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase.build import molecule

from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.core.training.config import generator_config
from atomsml.generative.core.training.run import GeneratorRun
from atomsml.training.loop import TrainingState
from atomsml.yaml_file import read_mapping

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from atomsml.generative.core.training.config import generator_config
from atomsml.generative.core.training.run import GeneratorRun
from atomsml.yaml_file import read_mapping
torch.set_num_threads(1)
run = GeneratorRun(generator_config(read_mapping(sys.argv[1])), Path(sys.argv[2]))
losses = [progress.step.loss for progress in run.steps()]
run.world.close()
if run.world.is_first:
    Path(sys.argv[2], "losses.json").write_text(json.dumps([run.world.size, losses]))
"""


def test_two_processes_reach_the_losses_of_one(tmp_path: Path) -> None:
    """13 molecules, of which 4 are held out, in batches of 4: the last of an epoch leaves one process idle."""
    rng, images = np.random.default_rng(0), [molecule(name) for name in ("H2O", "CH4", "CH3OH") * 5][:13]
    for atoms in images:
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
    ase.io.write(tmp_path / "molecules.extxyz", images)
    values = {
        "data": {"train": str(tmp_path / "molecules.extxyz"), "valid": 4},
        "model": "edm",
        "model_options": {"channels": 8, "num_layers": 1},
        "batch": {"samples": 4},
        "max_steps": 6,
        "evaluate_epochs": 1,
    }
    config, program = tmp_path / "config.yaml", tmp_path / "program.py"
    config.write_text(json.dumps(values))
    program.write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, str(program), str(config), str(tmp_path / "two")], check=True)
    size, together = json.loads((tmp_path / "two" / "losses.json").read_text())
    assert size == 2
    run = GeneratorRun(generator_config(read_mapping(config)), tmp_path / "one")

    def both_shares(state: TrainingState[Any], batch: Any, done: float) -> float:
        rows = run.loader.plan(state.epoch)[state.batch]
        seed = sample_seed(run.config.seed, state.step)
        losses = []
        for share, mine in ((rows[::2], seed), (rows[1::2], sample_seed(seed, 1))):
            if len(share):
                losses.append(state.model.loss(run.train.batch(share), torch.Generator().manual_seed(mine)))
        mean = torch.cat(losses).mean()
        mean.backward()
        return mean.item()

    run.objective = both_shares  # type: ignore[method-assign]
    alone = [each.step.loss for each in run.steps()]
    assert len(alone) == 6
    np.testing.assert_allclose(together, alone, rtol=1e-4)  # float32, and Muon makes much of small differences
    lines = [
        [json.loads(line)["valid_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(lines[1], lines[0], rtol=1e-4)
