"""Hessians beside exact second derivatives by autograd, and beside ASE's of the same calculator."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.emt import EMT
from ase.cluster import Octahedron
from ase.constraints import FixAtoms, FixBondLength
from ase.vibrations import Vibrations

from atomsml import AtomicGraph, AtomsMLCalculator, load
from atomsml.properties.engine import Engine
from atomsml.properties.hessian import hessians


def exact(name: str, atoms) -> np.ndarray:
    potential = load(name).cast(torch.float64)
    graph = AtomicGraph.from_ase(atoms).with_neighbors(potential.cutoff)
    positions = graph.positions.requires_grad_()
    energy = potential(graph.replace(positions=positions)).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    rows = [torch.autograd.grad(each, positions, retain_graph=True)[0].ravel() for each in gradient.ravel()]
    return torch.stack(rows).numpy()


def test_is_exact_to_what_the_step_leaves():
    molecules = [molecule(name) for name in ("H2O", "CH4")]
    theirs = [exact("organic-xtb", atoms) for atoms in molecules]
    for precision in ("mixed", "float64"):
        engine = Engine.of(AtomsMLCalculator("organic-xtb", precision=precision))
        for i, found in hessians(molecules, engine):
            # h^2 F''' / 6 with F''' of some 1e4 eV/A^4 at the wall of the repulsion
            np.testing.assert_allclose(found, theirs[i], atol=5e-3)
            np.testing.assert_array_equal(found, found.T)


def test_is_that_of_ase(tmp_path):
    cluster = Octahedron("Cu", 2)
    cluster.rattle(0.05, seed=1)
    cluster.calc = EMT()
    vibrations = Vibrations(cluster, name=str(tmp_path / "vib"), delta=0.001)
    vibrations.run()
    theirs = vibrations.get_vibrations().get_hessian_2d()
    [(_, ours)] = hessians([cluster], Engine.of_ase(EMT()))
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_atoms_that_are_held_are_left_out():
    slab = fcc111("Cu", (2, 2, 2), vacuum=8)
    whole, free = slab.copy(), np.flatnonzero(slab.get_tags() == 1)
    slab.set_constraint(FixAtoms(np.flatnonzero(slab.get_tags() == 2)))
    (_, part), (_, everything) = hessians([slab, whole], Engine.of_ase(EMT()))
    rows = (3 * free[:, None] + np.arange(3)).ravel()
    np.testing.assert_allclose(part, everything[np.ix_(rows, rows)], atol=1e-9)


def test_other_constraints_and_nothing_free_are_refused():
    water = molecule("H2O")
    engine = Engine.of_ase(EMT())
    with pytest.raises(ValueError, match="not FixBondLength"):
        next(hessians([Atoms(water, constraint=FixBondLength(0, 1))], engine))
    with pytest.raises(ValueError, match="all atoms are held"):
        next(hessians([Atoms(water, constraint=FixAtoms([0, 1, 2]))], engine))
