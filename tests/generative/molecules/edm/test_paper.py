"""EDM as published: equal to its authors' program, whose predictions and losses make_edm_golden.py wrote down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from atomsml.generative.core.training.config import generator_config
from atomsml.generative.molecules.edm import bound
from atomsml.generative.molecules.edm.checkpoint import network_weights
from atomsml.generative.molecules.edm.model import EDM, EDMConfig
from atomsml.generative.molecules.edm.network import FullGraphs
from atomsml.generative.molecules.molecules import Molecules, Request
from atomsml.training.optim.optimizers import build_optimizer
from atomsml.training.optim.schedules import learning_rate_factor
from atomsml.yaml_file import read_mapping

# those of make_edm_golden.py
NAMES, ELEMENTS, T = ("CH4", "H2O", "NH3"), (1, 6, 7, 8), 1000
STEPS, TRAINING_STEPS = torch.tensor([125, 500, 875]), torch.tensor([0, 250, 625])
CONFIGS = {
    "plain": EDMConfig(ELEMENTS, (), 3, 16, 2, avg_num_neighbors=1.0, paper=True),
    "conditional": EDMConfig(
        ELEMENTS, ("gap",), 3, 16, 2, 15.0, 1.0, 1 / 8, None, condition_dropout=0.0, paper=True, num_sublayers=2
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def golden(kind: str) -> dict[str, Tensor]:
    with np.load(Path(__file__).parents[3] / "data" / "edm" / "golden.npz") as file:
        return {
            name.removeprefix(f"{kind}/"): torch.from_numpy(file[name]) for name in file.files if name.startswith(kind)
        }


@pytest.fixture(scope="module")
def model(kind: str, golden: dict[str, Tensor]) -> EDM:
    model = EDM(CONFIGS[kind]).double()
    stored = {name.removeprefix("weight/"): value for name, value in golden.items() if name.startswith("weight/")}
    model.load_state_dict({**model.state_dict(), **network_weights(stored, model.config)})
    model.formulas[:, 0] = torch.tensor([5, 4, 3])  # so that the histogram of sizes is known
    model.formula_counts[:] = 1
    return model


@pytest.fixture
def batch(golden: dict[str, Tensor]) -> Molecules:
    batch = Molecules.from_ase([molecule(name) for name in NAMES], torch.float64)
    batch.conditions.update({"gap": golden["context"]} if "context" in golden else {})  # mean 0 and deviation 1
    return batch


def split(values: Tensor) -> dict[str, Tensor]:
    return {"positions": values[..., :3], "features": values[..., 3:]}


def test_predictions_are_those_of_the_authors(model: EDM, golden: dict[str, Tensor], batch: Molecules) -> None:
    conditions = model.normalised_conditions(batch.conditions, len(batch))
    graphs = FullGraphs.from_mask(batch.mask)
    with torch.no_grad():
        found = model.predict_noise(split(golden["noise"]), STEPS.double() / T, conditions, graphs)
    for name, expected in split(golden["prediction"]).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_the_loss_is_that_of_the_authors(
    model: EDM, golden: dict[str, Tensor], batch: Molecules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs has two more terms, which no weight changes: the divergence at t = 1, and -log p(h | z_0) at t = 0.

    Their table is limited at t = 1, where alpha^2 is 1.0004e-5: the divergence is off by 4e-9 |[x, h]|^2 / 2.
    """
    noise = split(golden["noise"])
    monkeypatch.setattr(model, "_draw_steps", lambda *_: TRAINING_STEPS.double())
    monkeypatch.setattr(model, "_draw_noise", lambda *_: noise)
    with torch.no_grad():
        ours = model.loss(batch, torch.Generator())
    data = model.encode(batch)
    squared = sum((values.square().sum(dim=(1, 2)) for values in data.values()), start=torch.zeros(()))
    free, rows = 3 * (batch.sizes - 1).double(), batch.sizes * model.config.num_features
    normaliser = free * np.log(np.sqrt(2 * np.pi) * bound.deviation_at_zero(model.process))
    divergence = bound.divergence_and_normaliser(model.process, data, batch.sizes) - normaliser
    limited = 1.00039959e-5  # alpha^2 at t = 1 of their table, as their program prints it
    squares = {a2: (a2 * squared + (-a2 - np.log1p(-a2)) * (free + rows)) / 2 for a2 in (1e-5, limited)}
    torch.testing.assert_close(divergence, squares[1e-5], rtol=1e-6, atol=0)
    z_0 = model.process.interpolate(
        model.spaces["features"], data["features"], noise["features"], torch.zeros(3).double()
    )
    config = model.config
    log_p = bound.log_probability_of_features(
        model.process, data["features"], z_0, config.element_scale, config.number_scale
    )
    at_zero = -(log_p * batch.mask).sum(dim=1) * (TRAINING_STEPS == 0)
    # their masses have 1e-10 added, their alpha^2 has nine digits
    torch.testing.assert_close(ours + squares[limited] + at_zero, golden["training_loss"], rtol=1e-9, atol=2e-8)


def test_the_bound_is_that_of_the_authors(model: EDM, golden: dict[str, Tensor], batch: Molecules) -> None:
    """Without -log p(N), which their program adds elsewhere."""
    with torch.no_grad():
        found = model.nll_bound_at(batch, STEPS, split(golden["noise"]), split(golden["noise_at_zero"]))
    found = found + model.log_probability_of_size(batch.sizes)
    torch.testing.assert_close(found, golden["bound"], rtol=1e-9, atol=1e-6)


def test_the_size_paper_has_the_weights_of_the_authors() -> None:
    """5,339,920 but for the row that gives the time back, which they cut off."""
    model = EDM(EDMConfig((1, 6, 7, 8, 9), **EDM.sizes["paper"]))
    assert sum(weight.numel() for weight in model.parameters()) == 5_339_920 - 257


def test_the_recipe_is_that_of_the_authors() -> None:
    """The arguments of their README: `--batch_size 64 --lr 1e-4 --ema_decay 0.9999`, and their optimiser."""
    recipe = Path(__file__).parents[4] / "benchmarks" / "recipes" / "edm-qm9.yaml"
    config = generator_config(read_mapping(recipe))
    (matrices, _) = build_optimizer(EDM(CONFIGS["plain"]).named_parameters(), config.optimizer).param_groups
    assert (matrices["lr"], matrices["weight_decay"], matrices["amsgrad"]) == (1e-4, 1e-12, True)
    assert {learning_rate_factor(config.schedule, done) for done in (0.0, 0.5, 1.0)} == {1.0}
    assert (config.size, config.batch.samples, config.ema_decay) == ("paper", 64, 0.9999)


def test_unknown_conditions_are_refused() -> None:
    model = EDM(CONFIGS["conditional"])
    model.formulas[:, 0], model.formula_counts[:], model.condition_mean[:] = 3, 1, 0.25
    with pytest.raises(ValueError, match="no unknown condition"):
        list(model.sample([Request(0, 3)], 2))
    (request,) = model.requests([1])
    assert request.conditions == {"gap": 0.25}
    assert len(list(model.sample([request], 2))) == 2


def test_options_of_the_other_network_are_refused() -> None:
    with pytest.raises(ValueError, match="num_sublayers"):
        EDMConfig((1,), num_sublayers=2)
    with pytest.raises(ValueError, match="condition_dropout"):
        EDMConfig((1,), ("gap",), paper=True)
