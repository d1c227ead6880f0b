"""Space groups of crystals, beside those that spglib finds."""

from __future__ import annotations

import pytest
import spglib
from ase import Atoms
from ase.build import bulk, graphene, molecule

from atomsml.cli.relax.space_group import TOLERANCE, space_group

CRYSTALS = [
    bulk("Cu"),
    bulk("Ti"),
    bulk("Si", cubic=True),
    bulk("NaCl", "rocksalt", 5.64),
    bulk("GaN", "wurtzite", 3.2, 5.2),
    bulk("CsCl", "cesiumchloride", 4.1) * (1, 1, 2),
]


@pytest.mark.parametrize("crystal", CRYSTALS, ids=lambda crystal: str(crystal.symbols))
@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_as_spglib_has_it(crystal: Atoms, shift: float) -> None:
    atoms = crystal.copy()
    atoms.positions[0, 0] += shift
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.get_symmetry_dataset(cell, symprec=TOLERANCE)
    assert space_group(atoms) == f"{found.international} ({found.number})"


@pytest.mark.parametrize("atoms", [molecule("H2O"), graphene(vacuum=5.0)], ids=["molecule", "sheet"])
def test_only_crystals_have_one(atoms: Atoms) -> None:
    assert space_group(atoms) is None
