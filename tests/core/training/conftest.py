"""Labelled structures that every test of training uses: shaken water with the labels of ASE's Morse potential."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential

from atomsml.config import config_from_json
from atomsml.potentials.mace import MACE, MACEConfig

SMALL = {"channels": 8, "lmax": 1, "hidden_lmax": 1, "correlation": 2, "radial_mlp": [8], "cutoff": 4.0}


@pytest.fixture
def small() -> dict[str, Any]:
    """Options of a MACE that trains in seconds."""
    return dict(SMALL)


@pytest.fixture
def small_model() -> Callable[[int], MACE]:
    """Makes such a MACE of H and O with random weights by a seed."""

    def make(seed: int) -> MACE:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return MACE(config_from_json(MACEConfig, {"elements": [1, 8], **SMALL}, by_hand=True))

    return make


def labelled(atoms: ase.Atoms, rng: np.random.Generator) -> ase.Atoms:
    atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    atoms.calc = MorsePotential(epsilon=2.0, r0=1.0, rho0=3.0)
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    if atoms.pbc.all():
        atoms.info["REF_stress"] = atoms.get_stress(voigt=False)
    atoms.calc = None
    return atoms


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """30 molecules of water."""
    rng = np.random.default_rng(0)
    path = tmp_path / "water.extxyz"
    ase.io.write(path, [labelled(molecule("H2O"), rng) for _ in range(30)], format="extxyz")
    return path


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    """12 crystals with stress."""
    rng = np.random.default_rng(1)
    path = tmp_path / "crystals.extxyz"
    frames = [labelled(bulk("Cu", "fcc", a=1.6, cubic=True), rng) for _ in range(12)]
    ase.io.write(path, frames, format="extxyz")
    return path
