"""The CPU program of MACE against the same model by autograd."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ase.build import bulk
from ase.data import chemical_symbols

from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.potentials.mace.cpu import MACEOnCPU
from atomsml.programs import growing_tables
from tests.potentials.program_tests import ProgramTests, assert_equal, systems

SMALL: dict[str, Any] = {"elements": (1, 6, 8), "cutoff": 4.0, "channels": 16, "avg_num_neighbors": 8.0, "scale": 0.7}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"shift": -0.3},
    "scalar features": {"hidden_lmax": 0},
    "degree 2 features": {"hidden_lmax": 2, "lmax": 2},
    "degree 4 harmonics": {"lmax": 4, "hidden_lmax": 0, "channels": 4},
    "few channels": {"channels": 10},
    "one layer": {"num_layers": 1},
    "three layers": {"num_layers": 3, "lmax": 2},
    "pairs only": {"correlation": 1, "lmax": 1, "hidden_lmax": 0},
    "MACE-OFF23": {"residual_first": False},
    "MPA-0": {"residual_first": False, "density_normalization": True, "distance_transform": "agnesi", "zbl": True},
    "short-range core": {"zbl": True, "scale_zbl": False, "inner_cutoff": 1.2},
    "cores of pairs": {"zbl": True, "scale_zbl": False, "core": 0.9},
    "0b": {"density_normalization": True, "distance_transform": "agnesi"},
}


def make(dtype: torch.dtype = torch.float64, **options: Any) -> MACE:
    torch.manual_seed(0)
    model = MACE(MACEConfig(**{**SMALL, **options})).cast(dtype)
    model.references = torch.linspace(-13.0, -2041.0, len(model.elements), dtype=torch.float64)
    return model.requires_grad_(False)


class TestMACEProgram(ProgramTests):
    @pytest.fixture
    def model(self) -> MACE:
        return make(channels=10, lmax=2)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_is_the_function_of_every_variant(options: dict[str, Any]) -> None:
    """Slopes of radial functions deviate by 1e-8 of the largest; some hundred of them add up in a force."""
    model, graph = make(**options), systems().with_neighbors(4.0)
    assert_equal(MACEOnCPU(model)(graph, stress=True), evaluate(model, graph, stress=True), 1e-7)


def stream(elements: tuple[int, ...], count: int) -> list[AtomicGraph]:
    """Small crystals of two elements each, of different sizes."""
    pairs = list(itertools.combinations(elements, 2))[:count]
    crystals = [bulk(chemical_symbols[a], "fcc", a=3.2, cubic=True) * (1 + a % 3, 1, 1) for a, _ in pairs]
    for i, (crystal, (_, other)) in enumerate(zip(crystals, pairs, strict=True)):
        crystal.numbers[1::3] = other
        crystal.rattle(0.1, seed=i)
    return [AtomicGraph.from_ase(crystal).with_neighbors(4.0) for crystal in crystals]


QUICK: dict[str, Any] = {"lmax": 1, "hidden_lmax": 0, "radial_mlp": (8,), "elements": tuple(range(5, 11))}


@pytest.mark.parametrize("options", [VARIANTS["plain"], VARIANTS["MPA-0"]], ids=["plain", "MPA-0"])
def test_equal_structures_give_equal_bits_whatever_came_before(options: dict[str, Any]) -> None:
    model = make(torch.float32, **options, **QUICK)
    graphs = stream(model.elements, 6)
    program = MACEOnCPU(model)
    for graph in (*graphs, graphs[0]):
        found, alone = program(graph, stress=True), MACEOnCPU(model)(graph, stress=True)
        assert torch.equal(found.atom_energies, alone.atom_energies)
        assert torch.equal(found.forces, alone.forces)
        assert torch.equal(found.stress, alone.stress)


def test_memory_for_tables_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for the kinds of two elements, or a few more; what was forgotten is made again."""
    model = make(torch.float32, **VARIANTS["MPA-0"], **QUICK)
    graphs = stream(model.elements, 8)
    expected = [MACEOnCPU(model)(graph).energy for graph in graphs]
    tables = MACEOnCPU(model).weights((5,)).tables.radial
    most = 5 * max(shelf.rows.values[:, : shelf.rows_each].nbytes for shelf in tables)
    monkeypatch.setattr(growing_tables, "MOST_BYTES", most)
    program, places = MACEOnCPU(model), set()
    for graph, energy in zip(graphs, expected, strict=True):
        assert torch.equal(program(graph).energy, energy)
        for shelf in program.weights(tuple(graph.numbers.unique().tolist())).tables.radial:
            assert shelf.rows.values.nbytes <= most
            places.add(shelf.rows.values.data_ptr())
    assert len(places) > 2  # of two layers: they began anew


def test_memory_for_atoms_is_given_back() -> None:
    program = MACEOnCPU(make())
    small, large = bulk("C", "fcc", a=3.2, cubic=True), bulk("C", "fcc", a=3.2, cubic=True) * (8, 8, 5)
    for atoms, most in ((large, 2000), (small, 10), (large, 2000)):
        program(AtomicGraph.from_ase(atoms).with_neighbors(2.5))
        ((_, plan),) = program._idle
        assert len(atoms) <= plan.sizes.atoms < most
