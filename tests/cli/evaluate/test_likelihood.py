"""`atomsml evaluate likelihood`: table, JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
import torch
from ase.build import molecule

from atomsml.generative.core.likelihood import likelihood
from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.molecules.edm.model import EDM, EDMConfig


@pytest.fixture
def model(tmp_path: Path) -> EDM:
    """model.safetensors, fitted to held.xyz."""
    ase.io.write(tmp_path / "held.xyz", [molecule(name) for name in ("CH4", "H2O", "NH3", "CH4")])
    samples = EDM.read([tmp_path / "held.xyz"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EDM(EDMConfig(**{**EDM.measure(samples), "channels": 8, "num_layers": 1}))
    model.fit(samples)
    save_generator(model, tmp_path / "model.safetensors", {})
    return model


def test_table_and_json(run, model: EDM) -> None:
    found = likelihood(model, EDM.read(["held.xyz"]), draws=3, seed=5)
    arguments = ("evaluate", "likelihood", "model.safetensors", "held.xyz", "--draws", "3", "--seed", "5")
    table = run(*arguments)
    assert table.status == 0
    assert table.out.splitlines()[0].split() == ["metric", "value", "from", "to", "unit", "of", "molecules"]
    values = [f"{each:.2f}" for each in (found.nll_bound, found.low, found.high)]
    assert table.out.splitlines()[1].split() == ["bound", "of", "-log", "p", *values, "nats", "4"]
    said = json.loads(run(*arguments, "--json").out)
    assert said["nll_bound"] == pytest.approx(found.nll_bound, rel=1e-6)
    assert (said["draws"], said["of"], said["infinite"]) == (3, 4, 0)


def test_impossible_sizes_are_named(run, model: EDM) -> None:
    ase.io.write("other.xyz", [molecule("CH4"), molecule("H2O"), molecule("N2")])
    result = run("evaluate", "likelihood", "model.safetensors", "other.xyz")
    assert result.status == 1
    assert "1 of 3 molecules have a size that no training sample" in result.err
    assert result.out.split()[-1] == "2"


@pytest.mark.usefixtures("model")
def test_refusals(run) -> None:
    ase.io.write("fluorine.xyz", molecule("HF"))
    for arguments, message in [
        (("qm9-flow", "held.xyz"), "MoleculeFlow has no bound of the likelihood"),
        (("organic-xtb", "held.xyz"), "is a potential, not a generator"),
        (("model.safetensors", "fluorine.xyz"), "does not know the atomic number 9"),
        (("model.safetensors", "none.xyz"), "none.xyz"),
    ]:
        result = run("evaluate", "likelihood", *arguments)
        assert result.status == 1
        assert message in result.err
        assert len(result.err.strip().splitlines()) == 1


def test_a_condition_that_the_files_lack_is_named(run, model: EDM) -> None:
    config = EDMConfig(
        model.config.elements, ("gap",), num_formulas=model.config.num_formulas, channels=8, num_layers=1
    )
    conditional = EDM(config)
    conditional.formulas.copy_(model.formulas)
    conditional.formula_counts.copy_(model.formula_counts)
    save_generator(conditional, "conditional.safetensors", {})
    result = run("evaluate", "likelihood", "conditional.safetensors", "held.xyz")
    assert result.status == 1
    assert "'gap', which the files do not have" in result.err
