"""A small untrained model, labelled structures, and a command line that runs in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.morse import MorsePotential

from atomsml.cli.main import main
from atomsml.modelfile import save
from atomsml.potentials import POTENTIALS


class Result(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a float64 MACE with random weights for H, C, O and Cu."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mace = POTENTIALS["mace"]
        config = mace.Config(
            elements=(1, 6, 8, 29),
            cutoff=3.5,
            channels=4,
            hidden_lmax=1,
            lmax=2,
            correlation=2,
            radial_mlp=(8,),
            readout_channels=4,
            scale=0.1,  # random forces are large
        )
        potential = mace(config).cast(torch.float64)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save(potential, path, {"kind": "molecules", "licence": "MIT", "metrics": {"forces_mae": 0.05}})
    return str(path)


@pytest.fixture(scope="session")
def direct_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of an eSCN with random weights whose forces are no gradient, for H and O."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        escn = POTENTIALS["escn"]
        sizes = {"channels": 4, "hidden_channels": 4, "num_layers": 1, "lmax": 1, "mmax": 1, "scale": 0.1}
        potential = escn(escn.Config(elements=(1, 8), cutoff=3.5, direct_forces=True, **sizes)).cast(torch.float64)
    path = tmp_path_factory.mktemp("direct") / "direct.safetensors"
    save(potential, path, {"kind": "molecules", "licence": "MIT"})
    return str(path)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `atomsml` with the given words in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        if isinstance(stop.value.code, str):  # Python itself prints it and exits with 1
            return Result(1, out, err + stop.value.code + "\n")
        return Result(stop.value.code or 0, out, err)

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """20 shaken molecules of water with the energies and forces of ASE's Morse potential."""
    rng, frames = np.random.default_rng(0), []
    for i in range(20):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.1, size=(3, 3))
        atoms.calc = MorsePotential(epsilon=2.0, r0=1.0, rho0=3.0)
        atoms.info |= {"dft_energy": atoms.get_potential_energy(), "config_type": "ab"[i % 2]}
        atoms.arrays["dft_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    path = tmp_path / "data.extxyz"
    ase.io.write(path, frames, format="extxyz")
    return path
