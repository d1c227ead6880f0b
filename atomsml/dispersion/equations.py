"""D3 in torch, equation by equation, as often differentiable as you like: what the compiled sums are checked by.

All pairs of atoms and images are tensors at once, system by system: slow, and large for the cutoffs of D3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.dispersion.coefficients import WIDTH
from atomsml.dispersion.coordination import STEEPNESS
from atomsml.dispersion.functionals import Cutoffs, Damping
from atomsml.dispersion.reference import Reference, reference
from atomsml.dispersion.triples import SCALE
from atomsml.geometry import periodic_lattice
from atomsml.graph import AtomicGraph
from atomsml.units import BOHR, HARTREE

Pairs = tuple[Tensor, Tensor, Tensor]  # centre, neighbour (pairs,), vector between them (pairs, 3) in bohr


def dispersion_energies(graph: AtomicGraph, damping: Damping, cutoffs: Cutoffs, three_body: bool) -> Tensor:
    """(atoms,) energies in eV, differentiable by the positions and the cell of the graph."""
    return torch.cat([_of_one(one, damping, cutoffs, three_body) for one in graph.to_list()]) * HARTREE


def _of_one(graph: AtomicGraph, damping: Damping, cutoffs: Cutoffs, three_body: bool) -> Tensor:
    elements, kind = graph.numbers.unique(return_inverse=True)
    known = reference(tuple(elements.tolist())).to(graph.device)
    around = _pairs(graph, max(cutoffs.pairs, cutoffs.coordination))
    c6 = coefficients(coordination_numbers(around, kind, known, cutoffs.coordination), kind, known)
    energies = _two_body(around, kind, known, c6, damping, cutoffs.pairs)
    if three_body:
        energies = energies + _three_body(_pairs(graph, cutoffs.triples), kind, known, c6, cutoffs.triples)
    return energies


def _pairs(graph: AtomicGraph, cutoff: float) -> Pairs:
    """All images of all atoms within a cutoff (bohr) of each atom, but itself."""
    positions, cell = graph.positions.double() / BOHR, graph.cell[0].double() / BOHR
    lattice = periodic_lattice(cell.detach()[None], graph.pbc)[0]
    inverse = torch.linalg.inv(lattice)
    apart = (positions.detach() @ inverse)[None] - (positions.detach() @ inverse)[:, None]
    reach = cutoff * torch.linalg.vector_norm(inverse, dim=0)
    ranges = []
    for axis in range(3):
        if graph.pbc[0, axis]:
            least = (-reach[axis] - apart[..., axis].max()).floor().item()
            most = (reach[axis] - apart[..., axis].min()).ceil().item()
            ranges.append(torch.arange(least, most + 1, dtype=torch.float64, device=graph.device))
        else:
            ranges.append(torch.zeros(1, dtype=torch.float64, device=graph.device))
    shifts = torch.cartesian_prod(*ranges)
    moved = shifts @ torch.where(graph.pbc[0, :, None], cell, 0.0)
    vectors = positions[None, :, None] - positions[:, None, None] + moved
    itself = torch.eye(len(positions), dtype=torch.bool, device=graph.device)[:, :, None] & (shifts == 0).all(dim=1)
    near = ((vectors.detach() ** 2).sum(dim=-1) <= cutoff**2) & ~itself
    centre, neighbour, _ = near.nonzero().unbind(dim=1)
    return centre, neighbour, vectors[near]


def coordination_numbers(pairs: Pairs, kind: Tensor, known: Reference, cutoff: float) -> Tensor:
    """(atoms,): see `coordination.py`."""
    centre, neighbour, vectors = pairs
    r = torch.linalg.vector_norm(vectors, dim=1)
    radii = known.covalent[kind[centre]] + known.covalent[kind[neighbour]]
    counts = torch.where(r <= cutoff, torch.sigmoid(STEEPNESS * (radii / r - 1)), 0.0)
    return torch.zeros_like(known.covalent[kind]).index_add(0, centre, counts)


def coefficients(numbers: Tensor, kind: Tensor, known: Reference) -> Tensor:
    """(atoms, atoms) C6: see `coefficients.py`."""
    of_systems = known.coordination[kind]
    exponents = -WIDTH * (numbers[:, None] - of_systems) ** 2
    weights = exponents.masked_fill(of_systems < 0, -torch.inf).softmax(dim=1)
    return torch.einsum("ia,jb,ijab->ij", weights, weights, known.c6[kind[:, None], kind])


def _two_body(pairs: Pairs, kind: Tensor, known: Reference, c6: Tensor, damping: Damping, cutoff: float) -> Tensor:
    """(atoms,): see `pairs.py`."""
    centre, neighbour, vectors = pairs
    r2 = (vectors**2).sum(dim=1)
    ratio = 3 * known.sqrt_q[kind[centre]] * known.sqrt_q[kind[neighbour]]
    f = damping.a1 * ratio.sqrt() + damping.a2
    shape = damping.s6 / (r2**3 + f**6) + damping.s8 * ratio / (r2**4 + f**8)
    energies = torch.where(r2 <= cutoff**2, -c6[centre, neighbour] * shape, 0.0)
    return torch.zeros_like(c6[0]).index_add(0, centre, energies / 2)


def _three_body(pairs: Pairs, kind: Tensor, known: Reference, c6: Tensor, cutoff: float) -> Tensor:
    """(atoms,): see `triples.py`; each triangle from each of its corners."""
    centre, neighbour, vectors = pairs
    first, second = torch.ones(len(centre), len(centre), dtype=torch.bool, device=centre.device).triu(1).nonzero().T
    same = centre[first] == centre[second]
    first, second = first[same], second[same]
    c = ((vectors[first] - vectors[second]) ** 2).sum(dim=1)
    near = (c.detach() <= cutoff**2) & (c.detach() > 0)
    first, second, c = first[near], second[near], c[near]
    i, j, k = centre[first], neighbour[first], neighbour[second]
    a, b = (vectors[first] ** 2).sum(dim=1), (vectors[second] ** 2).sum(dim=1)
    c9 = (c6[i, j] * c6[i, k] * c6[j, k]).sqrt()
    radii = SCALE * known.van_der_waals
    radius = radii[kind[i], kind[j]] * radii[kind[i], kind[k]] * radii[kind[j], kind[k]]
    square = a * b * c
    angles = 0.375 * (a + c - b) * (a - c + b) * (b + c - a) / square
    damping = 1 / (1 + 6 * (radius / square.sqrt()) ** (16 / 3))
    energies = c9 * damping * (1 + angles) / square**1.5
    return torch.zeros_like(c6[0]).index_add(0, i, energies / 3)
