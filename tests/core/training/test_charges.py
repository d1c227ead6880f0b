"""Training charges beside energies, or alone on a model that exists; data by which they cannot be learned."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch

from atomsml import evaluate, load
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.training.config import config_from_values
from atomsml.training.evaluation.judge import judge
from atomsml.training.evaluation.metrics import ErrorTable
from atomsml.training.losses import LossConfig, loss_sums
from atomsml.training.run import Run


@pytest.fixture
def charged(water: Path, tmp_path: Path) -> Path:
    """Water with fixed charges, and the dipoles and quadrupoles that follow from them."""
    images = ase.io.read(water, ":")
    for atoms in images:
        charges = np.where(atoms.numbers == 8, -0.8, 0.4)
        atoms.arrays["REF_charges"] = charges
        atoms.info["REF_dipole"] = charges @ atoms.positions
        atoms.info["REF_quadrupole"] = np.einsum("i,ia,ib->ab", charges, atoms.positions, atoms.positions)
    path = tmp_path / "charged.extxyz"
    ase.io.write(path, images, format="extxyz")
    return path


def trained(folder: Path, small: dict[str, Any], file: Path, **options: Any) -> Run:
    values = {"data": {"train": str(file), "valid": 0.2}, "device": "cpu", "max_steps": 150, **options}
    if "finetune" not in values:
        values.setdefault("model_options", small)
    run = Run(config_from_values(values), folder)
    for _ in run.steps():
        pass
    return run


def test_they_are_learned_beside_energies(charged, small, tmp_path):
    run = trained(tmp_path / "run", small, charged, charges=True, optimizer={"learning_rate": 0.02})
    errors = judge(run)["errors"]["all"]
    assert (errors["charges"], errors["dipoles"], errors["quadrupoles"]) == (18, 6, 6)
    assert errors["charges_mae"] < 0.02  # e, of 0.4 and 0.8
    assert errors["dipole_mae"] < 0.02  # e A, of 0.5
    assert errors["quadrupole_mae"] < 0.03  # e A^2
    model = load(run.folder / "model.safetensors")
    assert model.has_charges
    assert model.electronic_state.charge == 0
    report = (run.folder / "report.html").read_text()
    assert "Dipole MAE" in report


def test_a_head_alone_leaves_energies_as_they_are(charged, small, water, tmp_path):
    base = trained(tmp_path / "base", small, water, max_steps=5).folder / "model.safetensors"
    head = {"model": str(base), "method": "freeze", "trainable": ["charge_head*"]}
    bare = ase.io.read(charged, ":")
    for atoms in bare:
        del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
    ase.io.write(tmp_path / "bare.extxyz", bare, format="extxyz")
    data = {"train": {"file": str(tmp_path / "bare.extxyz"), "keys": {"energy": ""}}, "valid": 0.2}
    run = trained(tmp_path / "run", small, charged, charges=True, finetune=head, data=data)
    assert not any("energies mean nothing" in warning for warning in run.warnings)
    before, after = load(base), load(run.folder / "model.safetensors")
    graph = AtomicGraph.from_smiles("O")
    assert torch.equal(evaluate(after, graph).energy, evaluate(before, graph).energy)
    assert torch.equal(after.references, before.references)
    assert judge(run)["errors"]["all"]["dipole_mae"] < 0.1
    with pytest.raises(ValueError, match="neither energies nor forces, which training all weights would spoil"):
        trained(tmp_path / "spoiled", small, charged, charges=True, finetune={"model": str(base)}, data=data)
    without = trained(tmp_path / "without", small, water, finetune={"model": str(run.folder / "model.safetensors")})
    assert any("has charges, which this run does not train" in warning for warning in without.warnings)
    assert not load(without.folder / "model.safetensors").has_charges


def test_labels_that_some_structures_lack(charged, small, tmp_path):
    images = ase.io.read(charged, ":")
    for atoms in images[::2]:
        del atoms.arrays["REF_charges"], atoms.info["REF_quadrupole"]
    ase.io.write(tmp_path / "some.extxyz", images, format="extxyz")
    run = trained(tmp_path / "run", small, tmp_path / "some.extxyz", charges=True, max_steps=3)
    assert np.isfinite(run.state.best_loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_options": {"charges": True}}, "charges is a key of its own"),
        ({"charges": True, "finetune": {"model": "organic-xtb", "method": "lora"}}, "lora trains no charges"),
        ({"charges": True, "model": "painn"}, "charges: a PaiNN has none; train a mace"),
        ({"loss": {"energy": 0, "forces": 0, "stress": 0}}, "all weights of the loss are zero"),
        (
            {"finetune": {"model": "organic-xtb", "method": "freeze", "trainable": ["charge_head*"]}},
            "only a run with charges: true",
        ),
        ({"charges": True, "charge": 1}, r"sum to 0.00 e, and the model will hold for a total charge of 1"),
    ],
)
def test_impossible_wishes(charged, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        trained(tmp_path / "run", {}, charged, **options)


def test_data_without_labels_or_of_several_charges(water, charged, small, tmp_path):
    with pytest.raises(ValueError, match=r"no structure of the training set has charges.*--charges-key"):
        trained(tmp_path / "run", small, water, charges=True)
    images = ase.io.read(charged, ":")
    for i, atoms in enumerate(images):
        atoms.info["charge"] = i % 2
    ase.io.write(tmp_path / "mixed.extxyz", images, format="extxyz")
    with pytest.raises(ValueError, match="structures of charge 0, 1, and a model holds for one"):
        trained(tmp_path / "mixed", small, tmp_path / "mixed.extxyz", charges=True)


def made_up() -> tuple[Prediction, AtomicGraph]:
    """Two molecules, the second without labels, and a crystal whose dipole does not count."""
    labels = {"charges": torch.tensor([0.5, -0.5, torch.nan, 0.1])}
    dipole = torch.tensor([[1.0, 0.0, 0.0], [torch.nan] * 3, [9.0, 9.0, 9.0]])
    graph = AtomicGraph(
        positions=torch.zeros(4, 3),
        numbers=torch.tensor([1, 8, 1, 1]),
        cell=torch.eye(3).expand(3, 3, 3),
        pbc=torch.tensor([[False] * 3, [False] * 3, [True] * 3]),
        batch=torch.tensor([0, 0, 1, 2]),
        atom_data=labels,
        system_data={"energy": torch.zeros(3), "weight": torch.ones(3), "dipole": dipole},
    )
    nothing = torch.full((1, 3), torch.nan)
    said = {"dipole": torch.cat([torch.tensor([[1.0, 0.3, 0.4], [5.0, 5.0, 5.0]]), nothing])}
    return Prediction(
        torch.zeros(3), torch.zeros(4), atom_data={"charges": torch.tensor([0.4, -0.4, 7.0, 0.4])}, system_data=said
    ), graph


def test_losses():
    sums, counts = loss_sums(*made_up(), LossConfig(charges=2.0, dipole=3.0))
    assert sums[3:].tolist() == pytest.approx([2 * 0.5, 3 * 0.5, 0.0], abs=1e-6)  # norm 0.5
    assert counts[3:].tolist() == [3, 1, 0]


def test_errors():
    prediction, graph = made_up()
    errors = ErrorTable([""], [1, 8])
    errors.add(prediction, graph, [""] * 3)
    found = errors.table()["all"]
    assert (found["charges"], found["dipoles"]) == (3, 1)
    assert found["charges_mae"] == pytest.approx(0.5 / 3, abs=1e-7)
    assert found["charges_rmse"] == pytest.approx((0.11 / 3) ** 0.5, abs=1e-7)
    assert found["dipole_mae"] == pytest.approx(0.7 / 3, abs=1e-7)
    assert found["dipole_mae_debye"] == pytest.approx(4.8032045 * 0.7 / 3, rel=1e-6)  # 1 e A in D
    assert "quadrupole_mae" not in found
