"""Clashes against gemmi's search of neighbours, and chains folded back on themselves."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from atomsml.generative.proteins.metrics.clashes import CONTACT, clashes
from tests.generative.proteins.metrics.shapes import HELIX, chain_of, fixture, ideal


def squeezed(factor: float) -> np.ndarray:
    return fixture("1pdo").coordinates * factor


@pytest.mark.parametrize("factor", [1.0, 0.9, 0.8])
def test_residues_are_those_that_gemmi_finds(factor: float) -> None:
    coordinates = squeezed(factor)
    model = gemmi.Model(1)
    chain = gemmi.Chain("A")
    for i, atoms in enumerate(coordinates):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "GLY", gemmi.SeqId(i + 1, " ")
        for name, place in zip(("N", "CA", "C", "O"), atoms, strict=True):
            atom = gemmi.Atom()
            atom.name, atom.element, atom.pos = name, gemmi.Element(name[0]), gemmi.Position(*place)
            residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    search = gemmi.NeighborSearch(model, gemmi.UnitCell(), 4).populate()
    ca, atoms_clash = set[int](), set[int]()
    for i, residue in enumerate(model[0]):
        for atom in residue:
            for mark in search.find_atoms(atom.pos, "\0", radius=3.5):
                other = mark.to_cra(model)
                apart = abs(other.residue.seqid.num - i - 1)
                distance = atom.pos.dist(other.atom.pos)
                if apart > 2 and atom.name == other.atom.name == "CA" and distance < 3.5:
                    ca.add(i)
                pair = "-".join(sorted((atom.element.name, other.atom.element.name)))
                if apart > 2 and distance < CONTACT[pair]:
                    atoms_clash.add(i)
    found = clashes([chain_of(coordinates)])
    size = len(coordinates)
    assert found.metrics["ca"].value == pytest.approx(len(ca) / size)
    assert found.metrics["atoms"].value == pytest.approx(len(atoms_clash) / size)
    named = sorted(ca | atoms_clash)
    assert found.failures == (f"clashes at {', '.join(str(i + 1) for i in named)}" if named else "",)


def test_a_chain_laid_upon_itself_clashes_everywhere_and_neighbours_do_not_count() -> None:
    helix = ideal(*HELIX, 8)
    assert clashes([chain_of(helix)]).metrics["chains_without"].value == 1
    found = clashes([chain_of(np.concatenate([helix, helix]))])
    assert found.metrics["ca"].value == found.metrics["ca_close"].value == found.metrics["atoms"].value == 1


@pytest.mark.parametrize("residues", [1, 2, 3])
def test_few_residues_have_none(residues: int) -> None:
    assert clashes([chain_of(ideal(*HELIX, residues))]).metrics["ca"].value == 0
