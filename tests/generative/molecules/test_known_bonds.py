"""Bonds that a molecule brings along, against those of its positions."""

from __future__ import annotations

import ase
import numpy as np

from atomsml.generative.molecules.known_bonds import disagreement, known_bonds
from atomsml.generative.molecules.metrics.perception import perceive
from atomsml.io import atoms_from_smiles


def test_a_resonance_structure_is_no_disagreement() -> None:
    """Nitromethane with the charges written the other way round, and furan as a Kekule structure."""
    nitro, furan = atoms_from_smiles("C[N+](=O)[O-]"), atoms_from_smiles("c1ccoc1")
    nitro.info["bonds"][[1, 2], 2] = nitro.info["bonds"][[2, 1], 2]
    charges = nitro.get_initial_charges()
    nitro.set_initial_charges(charges[[0, 1, 3, 2, *range(4, len(nitro))]])
    for atoms, smiles in ((nitro, "C[N+](=O)[O-]"), (furan, "c1ccoc1")):
        known = known_bonds(atoms)
        assert known is not None
        (found,) = perceive([atoms])
        assert known.smiles == found.smiles == smiles
        assert disagreement(atoms, known, found) == ""


def test_bonds_that_lack_or_are_too_many_are_named() -> None:
    """Dimethyl ether is not ethanol, and cyclopropane no open chain."""
    ethanol, ether, ring = (atoms_from_smiles(text) for text in ("CCO", "COC", "C1CC1"))
    known = known_bonds(ethanol)
    assert known is not None
    ethanol.positions = ether.positions[[0, 2, 1, *range(3, 9)]]
    (found,) = perceive([ethanol])
    assert disagreement(ethanol, known, found) == "the bond C0-C1 is not there"
    bonds = ring.info["bonds"]
    ring.info["bonds"] = bonds[~((bonds[:, 0] == 0) & (bonds[:, 1] == 2) | (bonds[:, 0] == 2) & (bonds[:, 1] == 0))]
    chain = known_bonds(ring)
    assert chain is not None
    (found,) = perceive([ring])
    assert disagreement(ring, chain, found) == "the bond C0-C2 is not in its graph"


def test_without_bonds_nothing_is_known() -> None:
    assert known_bonds(ase.Atoms("H2", positions=np.eye(3)[:2])) is None
