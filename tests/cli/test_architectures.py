"""Every architecture in POTENTIALS does what the command line offers: it is trained, judged, used and trained on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule

from atomsml import AtomsMLCalculator
from atomsml.config import config_from_json
from atomsml.graph import AtomicGraph
from atomsml.io import atoms_from_smiles
from atomsml.potential import evaluate
from atomsml.potentials import POTENTIALS
from atomsml.potentials.nequip import NEQUIP
from atomsml.training.config import config_from_values
from atomsml.training.finetune import LowRankAdapted
from atomsml.training.optim.optimizers import is_matrix
from atomsml.training.run import Run as TrainingRun

Run = Callable[..., Any]

# what makes a model small and quick, by the names that the configs share
SMALL = {
    "cutoff": 3.0,
    "channels": 4,
    "hidden_channels": 4,
    "grid_channels": 4,
    "attention_channels": 4,
    "ffn_channels": 4,
    "readout_channels": 4,
    "lmax": 1,
    "mmax": 1,
    "correlation": 2,
    "num_layers": 1,
    "num_heads": 2,
    "radial_mlp": [4],
}

# what makes the network of a paper, where the default of its name is another
AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "nequip": {**NEQUIP, "parity": True, "num_layers": 3, "element_scales": True},
    "escn": {"paper": True, "readout_channels": 16, "num_gaussians": 20, "num_sphere_points": 16},
    "equiformer_v2": {"paper": True, "alpha_channels": 4, "value_channels": 2, "num_gaussians": 20},
    "egnn": {"paper": True, "readout_channels": 64},
    "facet": {"pointwise": "mlp", "grid_channels": 64, "grid": [8, 7]},
}


def small(name: str) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(POTENTIALS[name].Config)}
    options = {key: value for key, value in SMALL.items() if key in defaults}
    return options | ({"channels": [4, 2]} if isinstance(defaults["channels"], tuple) else {})  # one number for each l


@pytest.mark.parametrize("name", POTENTIALS)
def test_every_size_builds(name: str) -> None:
    model_class = POTENTIALS[name]
    assert model_class(model_class.Config(elements=(1, 6, 8))).elements == (1, 6, 8)
    sizes = {
        size: sum(weight.numel() for weight in model_class(_configured(name, options)).parameters())
        for size, options in model_class.sizes.items()
    }
    ours = [number for size, number in sizes.items() if size != "paper"]
    assert ours == sorted(ours), "from quick to accurate"


@pytest.mark.parametrize(("name", "more"), [*((name, {}) for name in POTENTIALS), *AS_PUBLISHED.items()])
def test_matrices_start_at_the_size_that_learning_rates_are_made_for(name: str, more: dict[str, Any]) -> None:
    """A step of Muon is a share of numbers of order one: matrices that start far smaller are gone after a few."""
    torch.manual_seed(0)
    model_class = POTENTIALS[name]
    model = model_class(_configured(name, {**model_class.sizes["small"], **more}))
    matrices = {key: p.square().mean().sqrt().item() for key, p in model.named_parameters() if is_matrix(key, p)}
    assert len(matrices) > 3
    assert 0.3 < min(matrices.values()) <= max(matrices.values()) < 2


def _configured(name: str, options: dict[str, Any]) -> Any:
    values = json.loads(json.dumps({"elements": [1, 6, 8], **options}))
    return config_from_json(POTENTIALS[name].Config, values)


@pytest.mark.parametrize(("name", "more"), [*((name, {}) for name in POTENTIALS), *AS_PUBLISHED.items()])
def test_from_structures_to_simulations(run: Run, data: Path, name: str, more: dict[str, Any]) -> None:
    def succeed(*words: object) -> str:
        result = run(*words)
        assert result.status == 0, f"atomsml {' '.join(map(str, words))}\n{result.err}"
        return str(result.out)

    options = small(name) | more
    values = {"data": {"train": str(data), "valid": 8}, "model": name, "model_options": options, "max_steps": 2}
    training = TrainingRun(config_from_values(values), Path("run"))  # what `train` does, but for the pictures
    assert [progress.step.number for progress in training.steps()] == [1, 2]

    model = "run/model.safetensors"
    about = json.loads(succeed("info", model, "--json"))
    assert about["architecture"] == name
    assert about["config"]["cutoff"] == SMALL["cutoff"]

    errors = json.loads(succeed("evaluate", model, data, "--json"))["errors"]["all"]
    assert errors["structures"] == 20
    water = atoms_from_smiles("O")
    (energy,) = json.loads(succeed("energy", "O", "-m", model, "--json"))
    assert energy["energy"] == pytest.approx(AtomsMLCalculator(model).get_property("energy", water))
    relaxed = run("relax", "O", "-m", model, "--fmax", 1e6, "-o", "relaxed.extxyz")
    moved = run("md", "O", "-m", model, "--timestep", 0.1, "--steps", 3, "-o", "md.extxyz")  # it is stiff by two steps
    for result in (relaxed, moved):
        assert result.status == 0, result.err
        assert ("jumps where two atoms cross its cutoff" in result.err) == more.get("paper", False)

    succeed("uncertainty", "run")
    (uncertain,) = json.loads(succeed("energy", "O", "-m", "run/model.uncertainty.safetensors", "--json"))
    assert uncertain["energy_std"] > 0
    assert uncertain["energy"] == pytest.approx(energy["energy"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "more"),
    [*((name, {}) for name in POTENTIALS), ("escn", {"direct_forces": True}), *AS_PUBLISHED.items()],
)
def test_low_rank_updates_change_it_and_fold_into_it(name: str, more: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = POTENTIALS[name](_configured(name, small(name) | more)).cast(torch.float64)
    for weight in base.parameters():  # what starts at zero would hide all before it
        if not weight.any():
            torch.nn.init.ones_(weight)
    graph = AtomicGraph.from_ase(molecule("CH3CH2OH"))
    before = evaluate(base, graph).forces
    adapted = LowRankAdapted(base, rank=2, alpha=2.0, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(evaluate(adapted, graph).forces, before, rtol=0, atol=1e-12)
    for update in adapted.up.values():
        torch.nn.init.constant_(update, 0.1)
    after = evaluate(adapted, graph).forces
    assert (after - before).abs().max() > 1e-3 * before.abs().max()
    torch.testing.assert_close(evaluate(adapted.merged(), graph).forces, after)


@pytest.mark.parametrize(("name", "more"), [*((name, {}) for name in POTENTIALS), *AS_PUBLISHED.items()])
def test_trains_in_bfloat16(run: Run, data: Path, name: str, more: dict[str, Any]) -> None:
    """Matrix products in bfloat16 have errors below 1 %, and the loss differs by as much."""
    losses = []
    for precision in ("float64", "bfloat16"):
        options = small(name) | more
        values = {"data": {"train": str(data), "valid": 8}, "model": name, "model_options": options, "max_steps": 1}
        training = TrainingRun(config_from_values(values | {"precision": precision}), Path(precision))
        losses += [progress.metrics["valid_loss"] for progress in training.steps() if progress.metrics is not None]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
