"""Which molecules a graph flow can learn from; the atoms of graphs are tested with the tasks."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from atomsml.generative.molecules.graph_flow.atoms import unsuited
from atomsml.generative.molecules.graph_flow.model import GraphFlow
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.io import atoms_from_smiles


def molecule_set(*bonds: np.ndarray | None) -> MoleculeSet:
    """Water with the given bonds after methane with its own."""
    methane, water = atoms_from_smiles("C"), molecule("H2O")
    images = [methane, *[water] * len(bonds)]
    return MoleculeSet.from_rows(
        [a.numbers for a in images], [a.positions for a in images], [methane.info["bonds"], *bonds], {}
    )


RIGHT = np.array([[0, 1, 1], [0, 2, 1]])


@pytest.mark.parametrize(
    ("bonds", "why"),
    [
        (RIGHT, ""),
        (None, r"in memory: molecule 2 \(counted from 0\): its bonds are not known"),
        (RIGHT[:1], r"molecule 2 \(counted from 0\): has a hydrogen that is not bonded to one heavy atom"),
        (np.array([[0, 1, 1], [1, 2, 1]]), "has a hydrogen that is not bonded to one heavy atom"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(bonds: np.ndarray | None, why: str) -> None:
    molecules = molecule_set(RIGHT, bonds)
    if not why:
        assert unsuited(molecules) == ""
        return
    with pytest.raises(ValueError, match=f"the validation set: .*{why}"):
        GraphFlow.check(molecule_set(RIGHT), molecules)
