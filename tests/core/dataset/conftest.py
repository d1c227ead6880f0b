"""Small labelled structures, and files of them."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.dataset import Dataset, read_dataset


def label(atoms: ase.Atoms, seed: int, prefix: str = "REF_") -> ase.Atoms:
    """A rattled copy with random labels; forces sum to zero."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
    forces = rng.normal(size=(len(atoms), 3))
    atoms.info[f"{prefix}energy"] = -3.0 * len(atoms) + rng.normal()
    atoms.arrays[f"{prefix}forces"] = forces - forces.mean(axis=0)
    if atoms.pbc.all():
        stress = rng.normal(scale=0.01, size=(3, 3))
        atoms.info[f"{prefix}stress"] = stress + stress.T
    return atoms


@pytest.fixture
def frames() -> list[ase.Atoms]:
    """Twelve molecules of three kinds, then four crystals; each kind is a group."""
    kinds = [*(molecule(name) for name in ("H2O", "CH4", "CH3OH")), bulk("Mo", cubic=True)]
    frames = []
    for i in range(16):
        kind = i // 4 if i >= 12 else i % 3
        atoms = label(kinds[kind], i)
        atoms.info["config_type"] = "crystal" if kind == 3 else "molecule"
        atoms.info["group"] = f"kind{kind}"
        frames.append(atoms)
    return frames


@pytest.fixture
def extxyz(tmp_path: Path, frames: list[ase.Atoms]) -> Path:
    path = tmp_path / "set.extxyz"
    ase.io.write(path, frames)
    return path


@pytest.fixture
def dataset(extxyz: Path) -> Dataset:
    return read_dataset(extxyz)
