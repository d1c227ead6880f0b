"""Commands where --device auto finds a GPU: they go through, and say where they computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
import torch
from ase.build import molecule

from atomsml.cli.main import main
from atomsml.modelfile import save
from atomsml.potentials.mace import MACE

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of its own, with success; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert not stop.value.code, (out, err, stop.value.code)
        return out

    return call


def computed_on(summary: str) -> str:
    device: str = json.loads(Path(f"{summary}.summary.json").read_text())["device"]
    return device


@pytest.fixture
def model(tmp_path: Path, make_mace: Callable[[int], MACE]) -> Path:
    save(make_mace(0), tmp_path / "small.safetensors", {"kind": "molecules"})
    return tmp_path / "small.safetensors"


def test_energies_relaxation_and_dynamics(cuda: torch.device, run: Run) -> None:
    outcomes = {
        "energy": ["energy", "O", "-m", "organic-xtb", "-o", "energy.extxyz"],
        "relax": ["relax", "O", "-m", "organic-xtb", "-o", "relax.extxyz"],
        "md": ["md", "O", "-m", "organic-xtb", "-o", "md.extxyz", "--steps", 3],
    }
    for name, words in outcomes.items():
        run(*words)
        assert computed_on(name) == str(cuda)


def test_a_device_is_named_in_any_case(cuda: torch.device, run: Run) -> None:
    for i, word in enumerate(("CUDA", "cuda:0", "Auto", "cpu")):
        run("energy", "O", "-m", "organic-xtb", "--device", word, "-o", f"{i}.extxyz")
        assert computed_on(str(i)) == ("cpu" if word == "cpu" else str(cuda))


def test_uncertainty_and_errors(cuda: torch.device, run: Run, model: Path, water: Path) -> None:
    run("uncertainty", model, "--train", water, "--valid", water, "-o", "uncertain.safetensors")
    run("evaluate", "uncertain.safetensors", water, "-o", "errors.extxyz")
    assert computed_on("errors") == str(cuda)


def test_training(cuda: torch.device, run: Run, water: Path, molecules: Path) -> None:
    """With its judge: errors, plots and the report of a potential, and samples of a generator."""
    potential = {"model_options": {"channels": 4, "lmax": 1, "correlation": 1, "cutoff": 4.0}, "data": {"valid": 4}}
    generator = {"model": "edm", "model_options": {"channels": 8, "num_layers": 1}, "data": {"valid": 2}}
    generator |= {"judge": {"samples": 3, "steps": 3}}
    for name, config, data in (("potential", potential, water), ("generator", generator, molecules)):
        Path(f"{name}.yaml").write_text(json.dumps({**config, "max_steps": 2}))
        run("train", f"{name}.yaml", "--train", data, "-o", name)
        summary = json.loads(Path(name, "summary.json").read_text())
        assert summary["device"] == cuda.type


def test_molecules_are_drawn(cuda: torch.device, run: Run) -> None:
    """With everything that can be asked for, and relaxed there."""
    heavy = molecule("CH3CH2OH")
    ase.io.write("scaffold.xyz", heavy[heavy.numbers > 1])
    wishes = ["--formula", "C3H8O", "--scaffold", "scaffold.xyz", "--condition", "gap=6", "--guidance", 1.5]
    run("generate", "molecules", "-m", "qm9-flow", "-n", 2, "--steps", 3, *wishes, "-o", "asked.extxyz")
    assert computed_on("asked") == str(cuda)
    run("generate", "molecules", "-n", 2, "--steps", 5, "--formula", "CH4O", "--relax", "organic-xtb", "-o", "b.extxyz")
    assert computed_on("b") == str(cuda)
    assert ase.io.read("b.extxyz").get_chemical_formula() == "CH4O"
