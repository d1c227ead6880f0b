"""Energies of some atoms of a large system, and their derivatives, from a part of it alone."""

from typing import Any

import numpy as np
import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential
from atomsml.potentials import POTENTIALS
from atomsml.programs.predictor import PlannedPredictor
from atomsml.region import Copies, Region, evaluate_region
from atomsml.testing import seeded

ELEMENTS = (1, 6, 8)
CUTOFF = 3.0  # A
SLOW = pytest.mark.slow
PROGRAMS = (
    pytest.param("mace", {"channels": 8, "lmax": 1, "num_layers": 3, "zbl": True}, id="mace"),
    pytest.param("nequip", {"num_layers": 3}, id="nequip", marks=SLOW),
    pytest.param("facet", {"num_layers": 2}, id="facet", marks=SLOW),
)
QUICK = ("egnn", "nequip", "painn")  # to compile


def potential(architecture: str, **options: Any) -> Potential:
    kind = POTENTIALS[architecture]
    return seeded(kind, kind.Config(elements=ELEMENTS, cutoff=CUTOFF, **options)).double()


def cloud(atoms: int, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions in a cube, none closer than 0.8 A, from the corner outwards, and atomic numbers."""
    rng, kept = np.random.default_rng(0), np.empty((0, 3))
    for x in rng.uniform(0, size, (20 * atoms, 3)):
        if len(kept) < atoms and (np.linalg.norm(kept - x, axis=1) > 0.8).all():
            kept = np.vstack([kept, x])
    kept = kept[np.linalg.norm(kept, axis=1).argsort()]
    return torch.from_numpy(kept), torch.from_numpy(rng.choice(ELEMENTS, atoms))


def copies(x: torch.Tensor, numbers: torch.Tensor) -> Copies:
    """Each atom once."""
    return Copies(x, numbers, torch.arange(len(x)), 100 * torch.eye(3, dtype=torch.float64))


def open_graph(x: torch.Tensor, numbers: torch.Tensor) -> AtomicGraph:
    cell, pbc = torch.zeros(1, 3, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.bool)
    return AtomicGraph(x, numbers, cell, pbc, torch.zeros(len(x), dtype=torch.int64)).with_neighbors(CUTOFF)


@pytest.mark.parametrize(("architecture", "options"), PROGRAMS)
def test_what_regions_say_sums_up_to_the_whole_system(architecture, options):
    model = potential(architecture, **options)
    x, numbers = cloud(300, 14.0)
    program, hops = model.program(), model.hops()
    assert isinstance(program, PlannedPredictor)
    whole = program(open_graph(x, numbers))
    for counted in (45, 1):  # no multiple of a chunk; the plan of the first serves the others
        forces, virial = torch.zeros_like(x), torch.zeros(3, 3, dtype=torch.float64)
        for part in (torch.arange(300), torch.arange(300).roll(-counted)):  # the first atoms, then all others
            number = counted if part[0] == 0 else 300 - counted
            region, kept = Region.around(copies(x[part], numbers[part]), number, CUTOFF + 0.5, hops)  # with a skin
            assert number > 100 or len(kept) < 280  # or nothing is tested
            found = program.of_region(region)
            torch.testing.assert_close(found.atom_energies, whole.atom_energies[part[:number]], atol=1e-11, rtol=0)
            by_positions = -torch.einsum("ai,aj->ij", found.forces, region.graph.positions)
            torch.testing.assert_close(found.virial, by_positions, atol=1e-10, rtol=0)
            forces.index_add_(0, part[kept], found.forces)
            virial += found.virial
        torch.testing.assert_close(forces, whole.forces, atol=1e-11, rtol=0)
        torch.testing.assert_close(virial, -torch.einsum("ai,aj->ij", whole.forces, x), atol=1e-10, rtol=0)


def test_autograd_says_the_same_of_a_region_as_of_the_whole_system():
    model = potential("painn")
    x, numbers = cloud(150, 11.0)
    x.requires_grad_()
    energies = model(open_graph(x, numbers))[:10]
    (gradient,) = torch.autograd.grad(energies.sum(), x)
    region, kept = Region.around(copies(x.detach(), numbers), 10, CUTOFF + 0.5, model.hops())
    found = evaluate_region(model, region)
    torch.testing.assert_close(found.atom_energies, energies.detach(), atol=1e-12, rtol=0)
    forces = torch.zeros_like(gradient).index_copy_(0, kept, found.forces)
    torch.testing.assert_close(forces, -gradient, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.virial, torch.einsum("ai,aj->ij", gradient, x.detach()), atol=1e-11, rtol=0)


@pytest.mark.parametrize("architecture", [pytest.param(x, id=x, marks=() if x in QUICK else SLOW) for x in POTENTIALS])
def test_energies_reach_as_many_hops_as_are_declared(architecture):
    """In a row of atoms of which only neighbours see each other, only so many change the energy of the first."""
    model = potential(architecture)
    hops = model.hops()
    atoms = hops + 4
    x = torch.zeros(atoms, 3, dtype=torch.float64)
    x[:, 0] = 0.6 * CUTOFF * torch.arange(atoms)
    x[:, 1:] = 0.5 * torch.from_numpy(np.random.default_rng(0).normal(size=(atoms, 2)))
    numbers = torch.tensor(ELEMENTS * atoms)[:atoms]
    graphs = []
    for k in range(atoms):  # the atom 0 has not moved in the first
        moved = x.clone()
        moved[k, 1] += 0.3 * (k > 0)
        graphs.append(open_graph(moved, numbers))
    with torch.no_grad():
        energies = model(AtomicGraph.from_list(graphs))[::atoms]
    assert (energies[1:] != energies[0]).tolist() == [k <= hops for k in range(1, atoms)]
