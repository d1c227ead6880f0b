"""Facet: few parameters by spline radial functions, falling multiplicities and point-wise products on the sphere.

After N. Miklaucic et al., "Facet: highly efficient E(3)-equivariant networks for interatomic potentials" (2025). One
layer takes features h to

    A_i  =  sum over neighbours j of  R(r_ij) Y(r_ij) h_j  /  avg_num_neighbors^0.7        convolution
    h'_i =  h_i + GridMLP(W [A_i, h_i])                                                    self-connection

where R are splines of the distance with learned coefficients, and GridMLP a network that acts on features as signals on
the sphere (`nn/sphere.py`): its products make many-body functions of A at the cost of a few matrices, where MACE has a
symmetric contraction with weights per element. A network of the last layer's scalars gives the energy of an atom.

| symbol | name | shape |
|---|---|---|
| h | blocks | for each l: (atoms, 2l + 1, channels[l]); scalars only before the first layer and after the last |
| R | radial weights | (pairs, paths x channels): the same in both directions of a pair of atoms |
| Y | harmonics | (edges, (lmax + 1)^2) |
| A | message | for each l: (atoms, 2l + 1, channels of the paths to l) |

The power 0.7 of the paper lies between the sums of unlike terms, which grow as N^(1/2), and of like ones. Other than
there, neighbours are all atoms within a fixed cutoff, where all vanishes smoothly (not the nearest 32 or 48, who change
in jumps); features have natural parity; the energy is a sum, not a mean; products are exact on their grid; and no layer
normalises its output, which gave worse forces, if better energies, in short trainings on ethanol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import NeighborGraph
from atomsml.nn.linear import MLP, IrrepLinear, irrep_blocks
from atomsml.nn.sphere import GridMLP
from atomsml.o3 import spherical_harmonics
from atomsml.o3.s2_grid import all_components
from atomsml.ops.convolution import Edges
from atomsml.ops.graded_convolution import graded_convolve, graded_table
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential, Predictor
from atomsml.radial.spline import spline_basis


@dataclass(frozen=True)
class FacetConfig:
    """Hyperparameters of Facet."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: tuple[int, ...] = (128, 64, 32)  # multiplicity of l = 0, 1, ... between layers; must not rise
    lmax: int = 2  # highest degree of the spherical harmonics and of the signals on the sphere
    grid_channels: int = 64  # multiplicity of all degrees on the sphere
    order: int = 2  # number of signals multiplied with each other on the sphere
    num_layers: int = 2
    num_splines: int = 16  # basis functions of a radial function
    envelope_power: int = 5  # p of the polynomial envelope
    readout_channels: int = 16  # hidden width of the readout
    avg_num_neighbors: float = 1.0  # messages are divided by its power 0.7; take the mean of the training set
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=("cutoff", "grid_channels", "order", "num_layers", "readout_channels", "avg_num_neighbors"),
            at_most={"lmax": 6, "order": 6, "num_layers": 16},
        )
        if self.num_splines < 4:
            raise ValueError(f"num_splines must be at least 4, got {self.num_splines}")
        if len(self.channels) > self.lmax + 1:
            raise ValueError(f"channels must be given for degrees up to lmax = {self.lmax}, got {self.channels}")
        graded_table(self.channels, self.lmax, self.lmax)  # refuses channels that rise


class Facet(Potential):
    """The potential; `Facet(FacetConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = FacetConfig
    config: FacetConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": (64, 32, 16)},
        "medium": {},
        "large": {"channels": (128, 64, 32, 16), "lmax": 3, "grid_channels": 128, "order": 3},
    }

    def __init__(self, config: FacetConfig) -> None:
        super().__init__(config)
        scalars = config.channels[:1]
        self.embedding = nn.Parameter(torch.randn(len(config.elements), *scalars))
        last = config.num_layers - 1
        self.layers = nn.ModuleList(
            FacetLayer(
                config,
                channels_in=config.channels if i > 0 else scalars,
                channels_out=config.channels if i < last else scalars,
            )
            for i in range(config.num_layers)
        )
        self.readout = MLP((*scalars, config.readout_channels, 1))

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        harmonics = spherical_harmonics(self.config.lmax, pairs.vectors)
        basis = spline_basis(pairs.lengths, self.cutoff, self.config.num_splines, self.config.envelope_power)
        blocks = [self.embedding[nodes][:, None, :]]
        for layer in self.layers:
            blocks = layer(blocks, harmonics, basis, pairs.edges)
        return self.atom_energies(self.readout(blocks[0][:, 0]).squeeze(1), nodes, graph)

    def program(self) -> Predictor | None:
        """On a CPU, for products of two signals; its radial functions are tables."""
        from atomsml.potentials.facet.cpu import FacetOnCPU

        on_cpu = self.embedding.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        return FacetOnCPU(self) if on_cpu and self.config.order == 2 else None

    @property
    def all_layers(self) -> list[FacetLayer]:
        """`layers` with their type."""
        return cast("list[FacetLayer]", list(self.layers))

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        return [list(self.readout.parameters())[-1]]


class FacetLayer(nn.Module):
    """One convolution, and the self-connection with its residual."""

    def __init__(self, config: FacetConfig, channels_in: tuple[int, ...], channels_out: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = config.avg_num_neighbors**-0.7
        self.lmax, self.channels_out = config.lmax, channels_out
        self.table = graded_table(channels_in, config.lmax, config.lmax)
        self.splines = nn.Parameter(torch.randn(config.num_splines, self.table.num_weights))
        own = [*channels_in, *[0] * (config.lmax + 1 - len(channels_in))]
        both = [a + b for a, b in zip(self.table.channels_out, own, strict=True)]
        self.linear = IrrepLinear(both, config.grid_channels)
        components = all_components(config.lmax)
        self.grid = GridMLP(components, config.grid_channels, config.grid_channels, channels_out[0], config.order)

    def forward(self, blocks: Sequence[Tensor], harmonics: Tensor, basis: Tensor, edges: Edges) -> list[Tensor]:
        message = graded_convolve(blocks, harmonics, basis @ self.splines * self.scale, edges, self.table)
        own = [[h] for h in blocks] + [[] for _ in message[len(blocks) :]]
        both = [torch.cat([a, *h], dim=2) for a, h in zip(message, own, strict=True)]
        mapped = irrep_blocks(self.grid(self.linear(both)), self.lmax)
        update = [x[:, :, :c] for x, c in zip(mapped, self.channels_out, strict=False)]  # lower multiplicity: some fall
        return [x + h[:, :, : x.shape[2]] for x, h in zip(update, blocks, strict=False)] + update[len(blocks) :]
