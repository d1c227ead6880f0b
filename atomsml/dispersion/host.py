"""D3 of a batch of systems by compiled sums, on the CPU and in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.threads import in_parts
from atomsml.dispersion.coefficients import SYSTEMS, Mixture, mix, weigh
from atomsml.dispersion.coordination import coordinate, coordinate_backward
from atomsml.dispersion.functionals import Cutoffs, Damping
from atomsml.dispersion.lattice import LANES, Atoms, Turned
from atomsml.dispersion.pairs import DampingTables, disperse
from atomsml.dispersion.pulls import COLUMNS, ENERGY, GRADIENT, OF_LANES, SLOPE, STRAIN
from atomsml.dispersion.reference import Reference, reference
from atomsml.dispersion.triples import NEAR, disperse_triples
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction, stress_of
from atomsml.units import BOHR, HARTREE

WORTH_A_THREAD = 16  # atoms for each thread
FEW = 1000  # neighbours of a corner of triangles, for which there is room at first
MATRIX = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]])  # where its elements are among STRAIN and the columns after it


@dataclass(frozen=True, eq=False)
class Sums:
    """What all sums over a batch need; `of_atoms` is what they share."""

    atoms: Turned
    known: Reference
    cutoffs: Cutoffs

    @property
    def of_atoms(self) -> Atoms:
        a = self.atoms
        given: list[Any] = [address(x) for x in (a.positions, a.lattice, a.system, a.first, a.kind)]
        given += [address(x) for x in (a.block, a.first_of_block, a.centre, a.radius, a.local)]
        given += [len(a.kind), len(a.elements)]
        return Atoms(*given)

    def added(self, columns: int, cutoff: float, work: Callable[[int, int, int, int, int], None]) -> Tensor:
        """(atoms, columns) sum of what threads add: work(begin, step, room for images, for lanes, its tensor)."""
        count, room = len(self.atoms.kind), 4 * self.atoms.most_images(cutoff) + 4
        threads = max(1, min(torch.get_num_threads(), count // WORTH_A_THREAD))
        found = torch.zeros(threads, count, columns, dtype=torch.float64)

        def part(first: int, last: int) -> None:
            for begin in range(first, last):
                images = torch.empty(room, dtype=torch.float64)
                lanes = torch.empty(OF_LANES + 3 * LANES, dtype=torch.float64)
                work(begin, threads, address(images), address(lanes), address(found[begin]))

        in_parts(threads, threads, part)
        return found[0] if threads == 1 else found.sum(dim=0)


def dispersion_on_host(
    graph: AtomicGraph, damping: Damping, cutoffs: Cutoffs, three_body: bool, forces: bool, stress: bool
) -> Prediction:
    """Of the type and on the device of the graph; it need have no edges."""
    turned = Turned.of(graph)
    sums = Sums(turned, reference(turned.elements), cutoffs)
    numbers = _coordination(sums)
    out = _energies(sums, numbers, damping, three_body)
    if forces or stress:
        out += _backward(sums, out[:, SLOPE].contiguous())
    out = torch.empty_like(out).index_copy(0, turned.order, out)  # systems stay where they are
    energies = out[:, ENERGY] * HARTREE
    gradient = torch.bmm(out[:, None, GRADIENT:STRAIN], turned.axes[turned.system])[:, 0]
    return Prediction(
        energy=_of_systems(energies, turned).to(graph.positions),
        atom_energies=energies.to(graph.positions),
        forces=(-gradient * HARTREE / BOHR).to(graph.positions) if forces else None,
        stress=_stress(out, turned, graph) if stress else None,
    )


def _coordination(sums: Sums) -> Tensor:
    """(atoms,)"""
    covalent = address(sums.known.covalent)

    def work(begin: int, step: int, images: int, lanes: int, out: int) -> None:
        coordinate(*sums.of_atoms, covalent, sums.cutoffs.coordination, begin, step, images, lanes, out)

    return sums.added(1, sums.cutoffs.coordination, work)[:, 0]


def _energies(sums: Sums, numbers: Tensor, damping: Damping, three_body: bool) -> Tensor:
    """(atoms, COLUMNS) with the coordination numbers as they are."""
    known, kind, kinds = sums.known, sums.atoms.kind, len(sums.atoms.elements)
    weights = [x.contiguous() for x in weigh(numbers, known.coordination[kind])]
    mixed = [x.new_empty(len(kind), kinds, SYSTEMS) for x in weights]
    for given, mixture in zip(weights, mixed, strict=True):
        mix(address(kind), len(kind), kinds, address(known.c6), address(given), address(mixture))
    parts: list[Any] = [address(x) for x in (*weights, *mixed)]
    m = Mixture(*parts)
    ratio = 3 * known.sqrt_q[:, None] * known.sqrt_q
    f, cutoff = damping.a1 * ratio.sqrt() + damping.a2, sums.cutoffs.pairs
    tables = [(damping.s8 * ratio).contiguous(), f**6, f**8]
    p: tuple[Any, ...] = damping.s6, *(address(x) for x in tables)

    def work(begin: int, step: int, images: int, lanes: int, out: int) -> None:
        disperse(*sums.of_atoms, *m, *DampingTables(*p), cutoff, begin, step, images, lanes, out)

    found = sums.added(COLUMNS, cutoff, work)
    return found + _triples(sums, m) if three_body else found


def _triples(sums: Sums, m: Mixture) -> Tensor:
    """(atoms, COLUMNS)"""
    radii, cutoff, count = address(sums.known.van_der_waals), sums.cutoffs.triples, len(sums.atoms.kind)

    def work(begin: int, step: int, images: int, lanes: int, out: int) -> None:
        room = FEW
        while begin < count:
            about, atom = torch.empty(room, NEAR, dtype=torch.float64), torch.empty(room, dtype=torch.int64)
            near = address(about), address(atom), images, room
            begin, room = disperse_triples(*sums.of_atoms, *m, radii, cutoff, begin, step, *near, out), 2 * room

    return sums.added(COLUMNS, cutoff, work)


def _backward(sums: Sums, slope: Tensor) -> Tensor:
    """(atoms, COLUMNS) what the slope by coordination numbers adds."""
    covalent, cutoff = address(sums.known.covalent), sums.cutoffs.coordination
    by = address(slope)

    def work(begin: int, step: int, images: int, lanes: int, out: int) -> None:
        coordinate_backward(*sums.of_atoms, covalent, cutoff, begin, step, images, lanes, by, out)

    return sums.added(COLUMNS, cutoff, work)


def _of_systems(of_atoms: Tensor, turned: Turned) -> Tensor:
    found = of_atoms.new_zeros(len(turned.lattice), *of_atoms.shape[1:])
    return found.index_add(0, turned.system, of_atoms)


def _stress(out: Tensor, turned: Turned, graph: AtomicGraph) -> Tensor:
    """(systems, 3, 3)"""
    strain = _of_systems(out[:, STRAIN:COLUMNS], turned)[:, MATRIX]
    turned_back = turned.axes.mT @ strain @ turned.axes * HARTREE
    return stress_of(turned_back.to(graph.positions), graph)
