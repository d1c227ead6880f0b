"""The inverse Hessian of inverse_hessian.py on a CPU, in one call: of small systems, two dozen operations of torch take
many times as long.

The first places of a group are empty until it has made HISTORY steps, and are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Floats, Ints, compiled
from atomsml.simulate.optimizers.vector import Vector

if TYPE_CHECKING:
    from atomsml.simulate.optimizers.inverse_hessian import Pairs


def learn_on_host(pairs: Pairs, s: Vector, y: Vector) -> None:
    """In place."""
    memory = [*_memory(pairs, s), *(x.contiguous() for x in (s.atoms, s.cell, y.atoms, y.cell))]
    learn_pair(*(address(x) for x in memory), *_sizes(pairs, s))


def times_on_host(pairs: Pairs, vector: Vector, softness: float) -> Vector:
    """The inverse Hessian, which begins with `softness`, times a vector."""
    found = torch.empty_like(vector.atoms), torch.empty_like(vector.cell)
    memory = [*_memory(pairs, vector), vector.atoms.contiguous(), vector.cell.contiguous(), *found]
    multiply(*(address(x) for x in memory), *_sizes(pairs, vector), softness)
    return vector.like(*found)


def _memory(pairs: Pairs, vector: Vector) -> list[Tensor]:
    """The fields of Memory."""
    histories = (getattr(pairs, name) for name in pairs.levels)
    scratch = torch.zeros(4, len(vector.group), pairs.places, dtype=torch.float64)
    return [*histories, vector.batch, vector.group, torch.empty_like(vector.group), *scratch]


def _sizes(pairs: Pairs, vector: Vector) -> tuple[int, ...]:
    return len(vector.atoms), len(vector.cell), 3 * vector.cell.shape[1], pairs.places


class Memory(NamedTuple):
    """Pairs, to which group atoms belong, the first place of each group that is not empty, and zeros."""

    atom_steps: Floats
    cell_steps: Floats
    atom_changes: Floats
    cell_changes: Floats
    step_changes: Floats
    change_changes: Floats
    batch: Ints
    group: Ints
    first: Ints
    p: Floats  # (systems, places) S^T v
    q: Floats  # Y^T v
    u: Floats
    w: Floats


@compiled
def learn_pair(
    m: Memory,
    s_atoms: Floats,
    s_cell: Floats,
    y_atoms: Floats,
    y_cell: Floats,
    atoms: int,
    systems: int,
    width: int,
    places: int,
) -> None:
    """`width` numbers of a cell vary."""
    for k in range(systems):
        m.first[k] = max(first_place(m, m.group[k], places) - 1, 0)
    for i in range(atoms):
        g = m.group[m.batch[i]]
        shift(m.atom_steps, i, places, 3, m.first[g], s_atoms)
        shift(m.atom_changes, i, places, 3, m.first[g], y_atoms)
        add_products(m.atom_steps, i, places, 3, m.first[g], y_atoms, m.p, g)
        add_products(m.atom_changes, i, places, 3, m.first[g], y_atoms, m.q, g)
    for k in range(systems):
        g = m.group[k]
        shift(m.cell_steps, k, places, width, m.first[g], s_cell)
        shift(m.cell_changes, k, places, width, m.first[g], y_cell)
        add_products(m.cell_steps, k, places, width, m.first[g], y_cell, m.p, g)
        add_products(m.cell_changes, k, places, width, m.first[g], y_cell, m.q, g)
    for k in range(systems):
        add_border(m.step_changes, k, places, m.p, m.group[k])
        add_border(m.change_changes, k, places, m.q, m.group[k])


@compiled
def multiply(
    m: Memory,
    v_atoms: Floats,
    v_cell: Floats,
    found_atoms: Floats,
    found_cell: Floats,
    atoms: int,
    systems: int,
    width: int,
    places: int,
    softness: float,
) -> None:
    for k in range(systems):
        m.first[k] = first_place(m, m.group[k], places)
    for i in range(atoms):
        g = m.group[m.batch[i]]
        add_products(m.atom_steps, i, places, 3, m.first[g], v_atoms, m.p, g)
        add_products(m.atom_changes, i, places, 3, m.first[g], v_atoms, m.q, g)
    for k in range(systems):
        g = m.group[k]
        add_products(m.cell_steps, k, places, width, m.first[g], v_cell, m.p, g)
        add_products(m.cell_changes, k, places, width, m.first[g], v_cell, m.q, g)
    for k in range(systems):
        if m.group[k] == k:
            solve(m, k, places, scale_of(m, k, places, softness))
    for i in range(atoms):
        g = m.group[m.batch[i]]
        h = scale_of(m, g, places, softness)
        combine(m.atom_steps, m.atom_changes, i, places, 3, m.first[g], m.u, m.w, g, h, v_atoms, found_atoms)
    for k in range(systems):
        g = m.group[k]
        h = scale_of(m, g, places, softness)
        combine(m.cell_steps, m.cell_changes, k, places, width, m.first[g], m.u, m.w, g, h, v_cell, found_cell)


@compiled
def first_place(m: Memory, g: int, places: int) -> int:
    """The first place of a group that is not empty, or `places`."""
    place = 0
    while place < places and m.step_changes[(g * places + place) * places + place] == 0.0:
        place += 1
    return place


@compiled
def scale_of(m: Memory, g: int, places: int, softness: float) -> float:
    latest = (g + 1) * places * places - 1
    return m.step_changes[latest] / m.change_changes[latest] if m.change_changes[latest] > 0.0 else softness


@compiled
def shift(history: Floats, row: int, places: int, width: int, first: int, latest: Floats) -> None:
    """The places of a row move one forward, and `latest` becomes the last one."""
    end = (row * places + places - 1) * width
    for n in range((row * places + first) * width, end):
        history[n] = history[n + width]
    for d in range(width):
        history[end + d] = latest[row * width + d]


@compiled
def add_products(
    history: Floats, row: int, places: int, width: int, first: int, vector: Floats, sums: Floats, g: int
) -> None:
    for place in range(first, places):
        product = 0.0
        for d in range(width):
            product += history[(row * places + place) * width + d] * vector[row * width + d]
        sums[g * places + place] += product


@compiled
def add_border(matrices: Floats, k: int, places: int, columns: Floats, g: int) -> None:
    """What `_bordered` does."""
    start, last = k * places * places, places - 1
    for i in range(last):
        for j in range(last):
            matrices[start + i * places + j] = matrices[start + (i + 1) * places + j + 1]
    for i in range(places):
        matrices[start + i * places + last] = columns[g * places + i]
        matrices[start + last * places + i] = columns[g * places + i]


@compiled
def solve(m: Memory, g: int, places: int, h: float) -> None:
    """u = R^-1 p, w = R^-T ((D + h Y^T Y) u - h q)."""
    start, first = g * places, m.first[g]
    for back in range(places - first):
        i = places - 1 - back
        row = (start + i) * places
        x = m.p[start + i]
        for j in range(i + 1, places):
            x -= m.step_changes[row + j] * m.u[start + j]
        m.u[start + i] = 0.0 if m.step_changes[row + i] == 0.0 else x / m.step_changes[row + i]
    for i in range(first, places):
        row = (start + i) * places
        x = m.step_changes[row + i] * m.u[start + i] - h * m.q[start + i]
        for j in range(first, places):
            x += h * m.change_changes[row + j] * m.u[start + j]
        for j in range(first, i):
            x -= m.step_changes[(start + j) * places + i] * m.w[start + j]
        m.w[start + i] = 0.0 if m.step_changes[row + i] == 0.0 else x / m.step_changes[row + i]


@compiled
def combine(
    steps: Floats,
    changes: Floats,
    row: int,
    places: int,
    width: int,
    first: int,
    u: Floats,
    w: Floats,
    g: int,
    h: float,
    vector: Floats,
    found: Floats,
) -> None:
    """h v + S w - h Y u of a row."""
    for d in range(width):
        x = h * vector[row * width + d]
        for place in range(first, places):
            n = (row * places + place) * width + d
            x += w[g * places + place] * steps[n] - h * u[g * places + place] * changes[n]
        found[row * width + d] = x
