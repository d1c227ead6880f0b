"""Neighbour lists: every backend against brute force and ASE, on the systems that broke neighbour lists elsewhere."""

from __future__ import annotations

import importlib.util
import itertools
import resource
import sys
import time
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atomsml.geometry import ImpossibleGeometry
from atomsml.neighbors.lists import TIE, _mirror_and_sort, neighbor_list
from atomsml.testing import pretended_device

has_torch_cluster = importlib.util.find_spec("torch_cluster") is not None
BACKENDS = ["cpu", "vesin", "torch"]
OPEN_BACKENDS = [
    *BACKENDS,
    pytest.param(
        "torch-cluster",
        marks=pytest.mark.skipif(not has_torch_cluster, reason="torch-cluster is not installed; make cluster"),
    ),
]

Edge = tuple[int, ...]  # receiver, sender, and three cell offsets


def brute_force(atoms: ase.Atoms, cutoff: float) -> list[Edge]:
    """Every pair and every image, with none of the tricks of a neighbour list."""
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    if len(atoms) == 0:
        return []
    images = [0, 0, 0]
    for axis in np.flatnonzero(pbc):
        # distance between the lattice planes along this axis; the other periodic vectors span them
        others = cell[[a for a in range(3) if a != axis and pbc[a]]]
        normal = (
            cell[axis] - others.T @ np.linalg.lstsq(others.T, cell[axis], rcond=None)[0] if len(others) else cell[axis]
        )
        height = np.linalg.norm(normal)
        spread = np.ptp(positions @ normal) / height**2
        images[axis] = int(np.ceil(cutoff / height + spread)) + 1
    edges = []
    for a in range(-images[0], images[0] + 1):
        others = itertools.product(*(range(-n, n + 1) for n in images[1:]))
        offsets = np.array([(a, *bc) for bc in others])
        vectors = positions[None] - positions[:, None] + (offsets @ cell)[:, None, None]  # (offsets, atoms, atoms, 3)
        for n, i, j in np.argwhere((vectors**2).sum(axis=-1) < cutoff**2).tolist():
            if i != j or offsets[n].any():
                edges.append((i, j, *offsets[n].tolist()))
    return sorted(edges)


def from_ase_list(atoms: ase.Atoms, cutoff: float) -> list[Edge]:
    i, j, S = primitive_neighbor_list("ijS", atoms.pbc, atoms.cell.complete().array, atoms.positions, cutoff)
    return sorted((int(a), int(b), *map(int, s)) for a, b, s in zip(i, j, S, strict=True))


def arguments(
    systems: list[ase.Atoms], cutoff: float = 5.0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
    """Of neighbor_list, in its order."""
    return (
        torch.tensor(np.concatenate([np.empty((0, 3)), *(a.positions for a in systems)]), dtype=dtype),
        torch.tensor(np.array([a.cell.array for a in systems]).reshape(-1, 3, 3), dtype=dtype),
        torch.tensor(np.array([a.pbc for a in systems], dtype=bool).reshape(-1, 3)),
        cutoff,
        torch.arange(len(systems)).repeat_interleave(torch.tensor([len(a) for a in systems], dtype=torch.int64)),
    )


def edges_of(systems: list[ase.Atoms], cutoff: float, backend: str) -> list[Edge]:
    edge_index, offsets = neighbor_list(*arguments(systems, cutoff), backend)
    assert edge_index.dtype == offsets.dtype == torch.int64
    return [tuple(row) for row in torch.cat([edge_index.flip(0).T, offsets], dim=1).tolist()]


def brute_force_batch(systems: list[ase.Atoms], cutoff: float) -> list[Edge]:
    edges, start = [], 0
    for atoms in systems:
        edges += [(i + start, j + start, *offset) for i, j, *offset in brute_force(atoms, cutoff)]
        start += len(atoms)
    return edges


def random_atoms(num: int, cell: np.ndarray, pbc: list[bool] | bool, seed: int) -> ase.Atoms:
    """Atoms up to two cells away from their cell."""
    fractional = np.random.default_rng(seed).uniform(-2, 3, size=(num, 3))
    return ase.Atoms(f"H{num}", positions=fractional @ cell, cell=cell, pbc=pbc)


def slab() -> ase.Atoms:
    atoms = random_atoms(12, np.array([[4.0, 0.3, 0.0], [-0.7, 5.0, 0.0], [0.0, 0.0, 3.0]]), [True, True, False], 1)
    atoms.cell[2] = 0
    return atoms


def wire(axis: int) -> ase.Atoms:
    atoms = random_atoms(9, np.diag([3.0, 3.5, 4.0]), False, 2)
    atoms.cell[:] = 0
    atoms.cell[axis] = [0.4, 3.0, -0.5]
    atoms.pbc[axis] = True
    return atoms


def tilted_vacuum() -> ase.Atoms:
    """A slab whose third vector, of the open axis, lies almost in the plane of the others."""
    atoms = slab()
    atoms.cell[2] = [5.0, 5.0, 1e-6]
    return atoms


def far_away(pbc: bool) -> ase.Atoms:
    atoms = random_atoms(10, np.diag([4.0, 5.0, 6.0]), pbc, 3)
    atoms.positions += 1e6
    return atoms


def far_apart() -> ase.Atoms:
    """Two clusters of 30 atoms, 1.7e6 A apart: a dense grid of bins would not fit into any memory."""
    cluster = np.random.default_rng(4).uniform(0, 5, size=(30, 3))
    return ase.Atoms("H60", positions=np.concatenate([cluster, cluster + 1e6]))


def large_cell() -> ase.Atoms:
    """Several bins along each axis."""
    atoms = random_atoms(60, np.diag([25.0, 11.0, 16.0]), True, 11)
    atoms.wrap()
    return atoms


LEFT_HANDED = np.array([[0.0, 5.0, 0.2], [4.0, 0.0, 0.0], [0.3, 0.1, 6.0]])
TRICLINIC = np.array([[5.0, 0.0, 0.0], [4.6, 1.6, 0.0], [-4.4, 1.2, 1.7]])

OPEN = {
    "molecule": molecule("CH3CH2OH"),
    "open atom": ase.Atoms("H", positions=[[1.0, 2.0, 3.0]]),
    "no atoms": ase.Atoms(),
    "no edges": ase.Atoms("H3", positions=[[0, 0, 0], [9, 0, 0], [0, 9, 0]]),
    "far from the origin": far_away(pbc=False),
    "far apart": far_apart(),
    "atoms at one place": ase.Atoms("H3", positions=np.zeros((3, 3))),
    "flat": ase.Atoms("H9", positions=[[2.0 * i, 2.0 * j, 0] for i in range(3) for j in range(3)]),
    "crowded": random_atoms(120, np.eye(3), False, 5),
}
PERIODIC = {
    "crystal": bulk("Si", cubic=True),
    "unwrapped": random_atoms(20, np.diag([6.0, 5.0, 7.0]), True, 6),
    "slab": slab(),
    "slab with a tilted third vector": tilted_vacuum(),
    "slab open along a": random_atoms(10, np.diag([4.0, 5.0, 6.0]), [False, True, True], 7),
    "wire along a": wire(0),
    "wire along c": wire(2),
    "left-handed": random_atoms(15, LEFT_HANDED, True, 8),
    "triclinic": random_atoms(15, TRICLINIC, True, 9),
    "tiny cell": random_atoms(3, np.array([[1.5, 0, 0], [0.4, 1.3, 0], [0.2, -0.3, 1.7]]), True, 10),
    "tiny wire": ase.Atoms("H", cell=[0, 0, 0.8], pbc=[False, False, True]),
    "periodic atom": bulk("Cu"),
    "periodic without edges": ase.Atoms("H", cell=np.eye(3) * 20, pbc=True),
    "periodic without atoms": ase.Atoms(cell=np.eye(3) * 5, pbc=True),
    "far from the origin, periodic": far_away(pbc=True),
    "large cell": large_cell(),
    "very large empty cell": ase.Atoms("H2", positions=[[1, 1, 1], [-1, -1, -1]], cell=np.eye(3) * 1e6, pbc=True),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PERIODIC)
def test_periodic_against_brute_force(name: str, backend: str) -> None:
    assert edges_of([PERIODIC[name]], 3.9, backend) == brute_force(PERIODIC[name], 3.9)


@pytest.mark.parametrize("backend", OPEN_BACKENDS)
@pytest.mark.parametrize("name", OPEN)
def test_open_against_brute_force(name: str, backend: str) -> None:
    assert edges_of([OPEN[name]], 3.9, backend) == brute_force(OPEN[name], 3.9)


# ASE refuses empty systems, fills far-apart atoms' box with bins, and bins a slab along its third vector
BEYOND_ASE = {
    "no atoms",
    "periodic without atoms",
    "far apart",
    "very large empty cell",
    "slab with a tilted third vector",
}


@pytest.mark.parametrize("name", sorted((OPEN | PERIODIC).keys() - BEYOND_ASE))
def test_brute_force_agrees_with_ase(name: str) -> None:
    """The oracle itself."""
    atoms = (OPEN | PERIODIC)[name]
    assert brute_force(atoms, 3.9) == from_ase_list(atoms, 3.9)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_singles(backend: str) -> None:
    """Periodic, open and empty systems together give what each gives alone, shifted."""
    systems = [PERIODIC["triclinic"], OPEN["molecule"], OPEN["no atoms"], PERIODIC["tiny cell"], OPEN["far apart"]]
    systems += [PERIODIC["slab"], PERIODIC["periodic without atoms"], OPEN["open atom"], PERIODIC["crystal"]]
    assert edges_of(systems, 4.3, backend) == brute_force_batch(systems, 4.3)


@pytest.mark.parametrize("backend", OPEN_BACKENDS)
def test_batch_of_open_systems(backend: str) -> None:
    systems = [OPEN["no atoms"], OPEN["molecule"], OPEN["no atoms"], OPEN["crowded"], OPEN["open atom"]]
    assert edges_of(systems, 3.0, backend) == brute_force_batch(systems, 3.0)


@pytest.mark.parametrize("backend", OPEN_BACKENDS)
@pytest.mark.parametrize("systems", [[], [ase.Atoms()], [ase.Atoms(), ase.Atoms()]])
def test_nothing(systems: list[ase.Atoms], backend: str) -> None:
    edge_index, offsets = neighbor_list(*arguments(systems), backend)
    assert edge_index.shape == (2, 0)
    assert offsets.shape == (0, 3)


@st.composite
def crystals(draw: st.DrawFn) -> ase.Atoms:
    """Cells of either handedness, down to a normalised volume of 0.1, with any choice of periodic axes."""
    numbers = st.floats(-1, 1, allow_subnormal=False)
    unit = np.array(draw(st.lists(numbers, min_size=9, max_size=9))).reshape(3, 3) + np.eye(3) * 0.1
    lengths = np.linalg.norm(unit, axis=1)
    if lengths.min() < 0.05 or abs(np.linalg.det(unit)) < 0.1 * lengths.prod():
        unit, lengths = np.eye(3), np.ones(3)
    sizes = np.array(draw(st.lists(st.floats(2, 9), min_size=3, max_size=3)))
    pbc = draw(st.lists(st.booleans(), min_size=3, max_size=3))
    return random_atoms(draw(st.integers(1, 8)), unit * (sizes / lengths)[:, None], pbc, draw(st.integers(0, 2**31)))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(systems=st.lists(crystals(), min_size=1, max_size=3), cutoff=st.floats(0.5, 4))
def test_random_crystals(systems: list[ase.Atoms], cutoff: float, backend: str) -> None:
    # a lattice vector may be as long as the cutoff, and its image is then outside
    assert edges_of(systems, cutoff, backend) == brute_force_batch(systems, cutoff * (1 - TIE))


def test_large_systems_agree() -> None:
    """Enough atoms that every backend leaves its brute-force branch, and the cell list works in several chunks."""
    atoms = bulk("Si", cubic=True) * (8, 7, 9)
    atoms.rattle(0.1, seed=0)
    assert edges_of([atoms], 6.0, "cpu") == edges_of([atoms], 6.0, "vesin") == edges_of([atoms], 6.0, "torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_edge_has_its_reverse(backend: str) -> None:
    edges = edges_of([PERIODIC["triclinic"], PERIODIC["slab"]], 5.0, backend)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in edges} == set(edges)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_shell_exactly_at_the_cutoff_is_outside(backend: str) -> None:
    """Rounding decides on each of the pairs otherwise, differently in each backend."""
    atoms = bulk("Cu", "fcc", a=3.61, cubic=True) * (3, 3, 3)
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    edges = edges_of([atoms], 3.61, backend)
    assert len(edges) == 12 * len(atoms)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("backend", BACKENDS)
def test_edge_vectors_of_the_list(backend: str) -> None:
    """Cell offsets refer to the atoms as they were given, not as they were wrapped."""
    atoms = PERIODIC["unwrapped"]
    positions, cell, pbc, cutoff, batch = arguments([atoms], 4.0)
    (sender, receiver), offsets = neighbor_list(positions, cell, pbc, cutoff, batch, backend)
    vectors = positions[sender] + offsets.double() @ cell[0] - positions[receiver]
    assert len(vectors) > 0
    assert vectors.norm(dim=1).max() < 4.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_is_searched_in_float64(backend: str) -> None:
    positions, cell, pbc, cutoff, batch = arguments([PERIODIC["triclinic"], OPEN["molecule"]], dtype=torch.float32)
    single = neighbor_list(positions, cell, pbc, cutoff, batch, backend)
    double = neighbor_list(positions.double(), cell.double(), pbc, cutoff, batch, backend)
    assert torch.equal(single[0], double[0])
    assert torch.equal(single[1], double[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_require_gradients(backend: str) -> None:
    positions, cell, pbc, cutoff, batch = arguments([PERIODIC["slab"]])
    edge_index, _ = neighbor_list(positions.requires_grad_(), cell.requires_grad_(), pbc, cutoff, batch, backend)
    assert edge_index.shape[1] > 0


@pytest.mark.parametrize("backend", ["auto", "torch", "vesin"])
def test_on_a_gpu(backend: str) -> None:
    inputs = arguments([*PERIODIC.values(), *OPEN.values(), bulk("Si", cubic=True) * (8, 8, 8)], 4.3)
    expected = neighbor_list(*inputs)
    with pretended_device("cuda"):
        on_gpu = neighbor_list(*(x.cuda() if isinstance(x, Tensor) else x for x in inputs), backend)
        for a, b in zip(on_gpu, expected, strict=True):
            assert a.is_cuda
            assert torch.equal(a.cpu(), b)


def test_auto_is_one_of_the_backends() -> None:
    inputs = arguments([PERIODIC["triclinic"], OPEN["molecule"]])
    for a, b in zip(neighbor_list(*inputs), neighbor_list(*inputs, "vesin"), strict=True):
        assert torch.equal(a, b)


def test_refuses_bad_numbers() -> None:
    positions, cell, pbc, _, batch = arguments([OPEN["molecule"], PERIODIC["crystal"]])
    bad = positions.clone()
    bad[3, 1] = float("nan")
    with pytest.raises(ValueError, match=r"the position of atom 3 is not finite: \[.*nan.*\]"):
        neighbor_list(bad, cell, pbc, 5.0, batch)
    bad = cell.clone()
    bad[1, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="the cell of system 1 is not finite"):
        neighbor_list(positions, bad, pbc, 5.0, batch)
    for cutoff in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="cutoff must be positive and finite"):
            neighbor_list(positions, cell, pbc, cutoff, batch)


@pytest.mark.parametrize(
    ("cell", "pbc", "axes"),
    [
        (np.zeros((3, 3)), [False, True, False], "b"),
        (np.diag([4.0, 0.0, 4.0]), [True, True, True], "a and b and c"),
        (np.array([[4.0, 0, 0], [8, 0, 0], [0, 0, 4]]), [True, True, False], "a and b"),
        (np.array([[1.0, 2, 3], [4, 5, 6], [5, 7, 9]]), [True, True, True], "a and b and c"),
    ],
)
def test_refuses_singular_cells(cell: np.ndarray, pbc: list[bool], axes: str) -> None:
    systems = [OPEN["molecule"], ase.Atoms("H", cell=cell, pbc=pbc)]
    with pytest.raises(ValueError, match=f"system 1 is periodic along {axes} but its cell vectors are singular"):
        neighbor_list(*arguments(systems))
    with pytest.raises(ValueError, match=f"system 0 is periodic along {axes} but its cell vectors are singular"):
        neighbor_list(*arguments([ase.Atoms(cell=cell, pbc=pbc)]))


def test_refuses_wrong_shapes_and_order() -> None:
    positions, cell, pbc, _, batch = arguments([OPEN["molecule"], PERIODIC["crystal"]])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"positions": positions[:, :2]}, r"positions must have shape \(17, 3\), got \(17, 2\)"),
        ({"cell": cell[0]}, r"cell must have shape \(3, 3, 3\), got \(3, 3\)"),
        ({"pbc": pbc[:1]}, r"pbc must have shape \(2, 3\), got \(1, 3\)"),
        ({"pbc": pbc.long()}, "pbc must be boolean"),
        ({"batch": batch.flip(0)}, "batch must be ascending"),
        ({"batch": batch + 1}, "batch must be ascending and name systems 0 to 1"),
        ({"backend": "magic"}, "unknown neighbour-list backend 'magic'; choose one of auto, cpu, vesin, torch"),
        ({"backend": "torch-cluster"}, "open systems only"),
    ]
    for wrong, message in cases:
        inputs: dict[str, Any] = {"positions": positions, "cell": cell, "pbc": pbc, "cutoff": 5.0, "batch": batch}
        with pytest.raises(ValueError, match=message):
            neighbor_list(**(inputs | wrong))


def test_refuses_more_edges_than_a_key_can_hold() -> None:
    one = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="5 atoms with up to 1048576 periodic images per axis are too many"):
        _mirror_and_sort((one, one, torch.tensor([[2**20, 0, 0]])), 5)


TINY = {
    "cubic": ase.Atoms("W", cell=[0.05] * 3, pbc=True),
    "far smaller": ase.Atoms("W", cell=[1e-8] * 3, pbc=True),
    "slab": ase.Atoms("W", cell=[0.02, 0.02, 9], pbc=[True, True, False]),
    "wire": ase.Atoms("H", cell=[0, 0, 4e-6], pbc=[False, False, True]),
    "needle": ase.Atoms("H", cell=[1e-7, 50, 50], pbc=True),
    "flat": ase.Atoms("H", cell=[[1, 0, 0], [1, 1e-7, 0], [0, 0, 1]], pbc=True),
    "many atoms in one place": ase.Atoms("H30000", np.random.default_rng(0).random((30_000, 3))),
}


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("name", TINY)
def test_lengths_in_another_unit_end_in_one_line(name: str, backend: str) -> None:
    if name == "flat":  # not in another unit, but with as many images
        words = "singular|more than 20000 neighbours"
    else:
        words = r"^more than 20000 neighbours per atom within [0-9.]+ A; are cell and positions in Angstrom\?$"
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(ValueError, match=words):
        neighbor_list(*arguments([TINY[name]]), backend=backend)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_the_number_of_neighbours_that_is_allowed(backend: str) -> None:
    """A wire has 2 floor(cutoff / spacing) of them."""
    for count, allowed in ((10_000, True), (10_001, False)):
        wire = ase.Atoms("H", cell=[0, 0, 5 / (count + 0.5)], pbc=[False, False, True])
        positions, cell, pbc, _, batch = arguments([wire])
        if allowed:
            assert neighbor_list(positions, cell, pbc, 5.0, batch, backend)[0].shape == (2, 2 * count)
        else:
            with pytest.raises(ImpossibleGeometry, match="more than 20000 neighbours"):
                neighbor_list(positions, cell, pbc, 5.0, batch, backend)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_are_not_contiguous(backend: str) -> None:
    positions, cell, pbc, cutoff, batch = arguments([PERIODIC["triclinic"], OPEN["molecule"]])
    scattered = positions.T.contiguous().T, cell.mT.contiguous().mT, pbc.T.contiguous().T
    assert not any(x.is_contiguous() for x in scattered)
    for a, b in zip(
        neighbor_list(*scattered, cutoff, batch, backend),
        neighbor_list(positions, cell, pbc, cutoff, batch, backend),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("backend", "extra"), [("vesin", "vesin"), ("torch-cluster", "cluster")])
def test_names_the_extra_of_a_missing_backend(backend: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, backend.replace("-", "_"), None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"pip install atomsml\[{extra}\]"):
        neighbor_list(*arguments([OPEN["molecule"]]), backend)
