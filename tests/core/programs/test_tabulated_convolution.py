"""Geometry of edges and tabulated convolutions: values against the plain-torch parts, gradients against autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from atomsml.codegen.checks import checked_indices
from atomsml.codegen.machine import lanes
from atomsml.graph import AtomicGraph
from atomsml.o3 import spherical_harmonics
from atomsml.ops.convolution import ConvolutionTable, Edges, convolution_table, convolve_reference
from atomsml.programs import edges as edges_cpu
from atomsml.programs.edges import AtomArrays, EdgeArrays
from atomsml.programs.plan import Plan
from atomsml.programs.tabulated_convolution import RadialRows, TabulatedConvolution
from atomsml.radial.table import RadialTable, SplineGrid

CUTOFF, PIECES = 4.0, 31
GRID = SplineGrid(CUTOFF, (PIECES,))
WITH_BREAKS = SplineGrid(CUTOFF, (9, 4, 8), breaks=(1.5, 2.8), power=2)
TABLE_OF_KIND = torch.tensor([0, 1, 1, 0])  # (species of receiver, species of sender) -> table


class Interpolation(torch.autograd.Function):
    """A table with its slopes as derivatives."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, table: RadialTable, kind: Tensor) -> Tensor:
        values, slopes = table(r, kind)
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (gradient * ctx.saved_tensors[0]).sum(dim=1), None, None


@dataclass
class Setup:
    """Atoms in slots, their edges by the kernel, and the same edges in plain torch, sorted by slot."""

    dtype: torch.dtype
    lmax: int
    grid: SplineGrid = GRID

    def __post_init__(self) -> None:
        crystal = bulk("C", "diamond", a=3.5, cubic=True)
        crystal.rattle(0.1, seed=0)
        graphs = [AtomicGraph.from_ase(atoms) for atoms in (crystal, molecule("CH3CH2OH"), molecule("CO2"))]
        graph = AtomicGraph.from_list([*graphs, graphs[2].replace(positions=10.0 * graphs[2].positions)])
        graph = graph.with_neighbors(CUTOFF + 0.5)  # with a skin; the last three atoms have no neighbours
        assert graph.edge_index is not None
        assert graph.cell_offsets is not None
        generator = torch.Generator().manual_seed(0)
        self.atoms = graph.num_atoms
        order = torch.randperm(self.atoms, generator=generator)
        self.slot = order.argsort()
        species = torch.randint(2, (self.atoms,), generator=generator)
        arrays = AtomArrays.new(order, self.slot, species, graph.num_systems, graph.num_edges)
        arrays.positions.copy_(graph.positions)
        arrays.cell.copy_(graph.cell)
        arrays.load_list(graph.edge_index, graph.cell_offsets, graph.batch)
        self.edges = EdgeArrays.new(self.atoms, graph.num_edges, self.lmax, self.dtype)
        self.scratch = torch.empty(20000, dtype=self.dtype)
        self.plan = Plan(self.scratch)
        edges_cpu.find(self.plan, arrays, self.edges, self.grid, 2, self.lmax, 0, self.atoms)

        self.positions = graph.positions.clone().requires_grad_(True)
        self.strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        deformed = graph.replace(positions=self.positions, cell=graph.cell)
        vectors = deformed.edge_vectors()
        near = vectors.norm(dim=1) < CUTOFF
        sender, receiver = self.slot[graph.edge_index[:, near]]
        sorted_edges = receiver.argsort(stable=True)
        vectors = vectors[near][sorted_edges]
        self.vectors = vectors + vectors @ self.strain
        self.index = torch.stack([sender, receiver])[:, sorted_edges]
        self.kind = 2 * species[order][self.index[1]] + species[order][self.index[0]]

    def mine(self) -> Tensor:
        """Numbers of the kernel's edges in the order of those of plain torch."""
        pairs = zip(self.edges.begin.tolist(), self.edges.end.tolist(), strict=True)
        return torch.cat([torch.arange(begin, end) for begin, end in pairs])

    def convolve(self, h: Tensor, table: ConvolutionTable, radial: RadialTable) -> list[Tensor]:
        """By plain torch."""
        lengths = self.vectors.norm(dim=1)
        weights = Interpolation.apply(lengths, radial, TABLE_OF_KIND[self.kind])
        harmonics = spherical_harmonics(self.lmax, self.vectors)
        weights = weights.unflatten(1, (len(table.paths), -1))
        return convolve_reference(h, harmonics, weights, Edges.from_index(self.index, self.atoms), table)


def close(mine: Tensor, reference: Tensor, dtype: torch.dtype) -> None:
    """Sums of at most some hundred terms, each rounded."""
    tolerance = 200 * torch.finfo(dtype).eps * reference.abs().max().item()
    torch.testing.assert_close(mine.double(), reference.double(), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("lmax", "grid"), [(0, GRID), (1, WITH_BREAKS), (3, GRID), (4, GRID)])
def test_edges_within_the_cutoff_are_found_with_their_geometry(lmax: int, grid: SplineGrid, dtype: torch.dtype) -> None:
    setup = Setup(dtype, lmax, grid)
    setup.plan.run(setup.scratch)
    edges, mine = setup.edges, setup.mine()
    lengths = setup.vectors.norm(dim=1)
    piece, weights, slopes = grid.basis(lengths.detach())
    assert torch.equal(edges.sender[mine], setup.index[0])
    assert torch.equal(edges.kind[mine], setup.kind)
    assert torch.equal(edges.piece[mine], piece)
    close(edges.weights[mine], torch.stack([weights, slopes], dim=1), dtype)
    close(edges.harmonics[mine], spherical_harmonics(lmax, setup.vectors).detach(), dtype)
    close(edges.direction[mine, 3], lengths.detach(), torch.float64)
    assert not edges.gradient[mine].any()


def test_no_index_is_wrong() -> None:
    with checked_indices():
        test_convolution_and_its_gradients(None, 2, torch.float64)
        test_convolution_and_its_gradients(1, 0, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("lmax_in", "lmax"), [(None, 3), (None, 4), (0, 3), (1, 2), (2, 2), (1, 0)])
def test_convolution_and_its_gradients(lmax_in: int | None, lmax: int, dtype: torch.dtype) -> None:
    """In two ranges of slots, from 0 to 10 and to the end."""
    setup, generator = Setup(dtype, lmax), torch.Generator().manual_seed(1)
    channels = 2 * lanes(dtype)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    table = convolution_table(lmax_in or 0, lmax, lmax)
    coefficients = random(2, PIECES + 5, len(table.paths) * channels).double()
    rows = RadialRows.from_coefficients(coefficients, TABLE_OF_KIND, len(table.paths), dtype)
    kernels = TabulatedConvolution(table, channels, dtype, with_features=lmax_in is not None)
    h = torch.ones(setup.atoms, 1, channels, dtype=dtype)
    shapes = [(setup.atoms, (lmax + 1) ** 2, channels)]
    if lmax_in is not None:
        h = random(setup.atoms, table.dim_in, channels)
        shapes = [(setup.atoms, 2 * l + 1, len(paths) * channels) for l, paths in table.by_degree.items()]
    out, g, grad_h = [random(*shape) for shape in shapes], [random(*shape) for shape in shapes], torch.zeros_like(h)
    scratch = setup.scratch[: kernels.scratch_size(100)]
    for first, last in ((0, 10), (10, setup.atoms)):
        rest = [x[first:] for x in out], [x[first:] for x in g]
        kernels.forward(setup.plan, setup.edges, rows, h, rest[0], scratch, first, last)
        kernels.backward(setup.plan, setup.edges, rows, h, rest[1], grad_h, scratch, first, last)
    position_gradient = torch.full((setup.atoms, 3), torch.nan, dtype=torch.float64)
    virial = torch.full((setup.atoms, 9), torch.nan, dtype=torch.float64)
    edges_cpu.pull_back(setup.plan, setup.edges, position_gradient, virial, lmax, 0, setup.atoms)
    edges_cpu.add_to_senders(setup.plan, setup.edges, position_gradient, 0, setup.atoms)
    setup.plan.run(torch.empty_like(setup.scratch))

    exact_h = h.double().requires_grad_(True)
    exact = setup.convolve(exact_h, table, RadialTable(coefficients, GRID))
    exact = [torch.cat(exact, dim=1)] if lmax_in is None else exact
    total = torch.stack([(x * y.double()).sum() for x, y in zip(exact, g, strict=True)]).sum()
    by_positions, by_strain, by_h = torch.autograd.grad(total, [setup.positions, setup.strain, exact_h])
    for mine, reference in zip(out, exact, strict=True):
        close(mine, reference.detach(), dtype)
    if lmax_in is not None:
        close(grad_h, by_h, dtype)
    close(position_gradient[setup.slot], by_positions, dtype)
    close(virial.sum(dim=0).view(3, 3), by_strain.mT, dtype)
