"""Facet: few parameters by radial functions without networks, falling multiplicities, and functions on the sphere.

After N. Miklaucic et al., "Facet: highly efficient E(3)-equivariant networks for interatomic potentials" (2025). There
are two networks: `pointwise: product` is ours, `pointwise: mlp` the published one. A layer of ours takes features h to

    A_i  =  sum over neighbours j of  R(r_ij) Y(r_ij) h_j  /  avg_num_neighbors^0.7        convolution
    h'_i =  h_i + GridMLP(W [A_i, h_i])                                                    self-connection

where R are splines of the distance with learned coefficients, and GridMLP a network that acts on features as signals on
the sphere (`nn/sphere.py`): its products make many-body functions of A at the cost of a few matrices, where MACE has a
symmetric contraction with weights per element. A network of the last layer's scalars gives the energy of an atom.

A layer of the published network has the same A, but for R, which are linear maps of Bessel functions, and

    x_i  =  W_A A_i + W_h h_i                                                              interaction
    f(r) =  sum over l, m of  (W_up x_i)_lm Y_lm(r)                                        at points r of a grid
    u_i  =  W [x_i0, projection of SiLU(W_2 SiLU(W_1 f(r)))]                               self-connection
    h'_i =  h_i + s LayerNorm(u_i)                                                         s starts at 0

(`perceptron.py`). One more layer follows, of scalars alone, where three matrices with SiLU take the place of the grid,
and a linear map of what it makes is the energy.

| symbol | name | shape |
|---|---|---|
| h | blocks | for each l: (atoms, 2l + 1, channels[l]); scalars only before the first layer and after the last |
| R | radial weights | (pairs, paths x channels): the same in both directions of a pair of atoms |
| Y | harmonics | (edges, (lmax + 1)^2) |
| A | message | for each l: (atoms, 2l + 1, channels of the paths to l) |

The power 0.7 lies between the sums of unlike terms, which grow as N^(1/2), and of like ones. In both networks
neighbours are all atoms within a fixed cutoff, where all vanishes smoothly (not the nearest 32 or 48, who change in
jumps), and the energy is a sum, not a mean. Ours has natural parity and exact products on its grid; the published one
has neither. docs/faithful.md tells all differences.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from atomsml.graph import NeighborGraph
from atomsml.nn.linear import MLP
from atomsml.o3 import spherical_harmonics
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential, Predictor
from atomsml.potentials.facet.config import FacetConfig
from atomsml.potentials.facet.perceptron import BesselBasis, PerceptronLayer
from atomsml.potentials.facet.product import ProductLayer, SplineBasis

_LAYERS: dict[str, type[ProductLayer | PerceptronLayer]] = {"product": ProductLayer, "mlp": PerceptronLayer}


class Facet(Potential):
    """The potential; `Facet(FacetConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = FacetConfig
    config: FacetConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": (64, 32, 16)},
        "medium": {},
        "paper": {
            "pointwise": "mlp",
            "cutoff": 6.0,
            "readout_channels": 64,
            "grid": (18, 17),
            "readout_dropout": 0.2,
        },
        "large": {"channels": (128, 64, 32, 16), "lmax": 3, "grid_channels": 128, "order": 3},
    }

    def __init__(self, config: FacetConfig) -> None:
        super().__init__(config)
        published = config.pointwise == "mlp"
        embedding, last = (config.embedding_channels, config.readout_channels) if published else 2 * config.channels[:1]
        size = embedding**-0.5 if published else 1.0
        self.embedding = nn.Parameter(size * torch.randn(len(config.elements), embedding))
        self.radial_basis = BesselBasis(config) if published else SplineBasis(config)
        between = config.num_layers if published else config.num_layers - 1
        channels = [(embedding,), *[config.channels] * between, (last,)]
        layer = _LAYERS[config.pointwise]
        self.layers = nn.ModuleList(layer(config, a, b) for a, b in itertools.pairwise(channels))
        self.readout = MLP((last, 1) if published else (last, config.readout_channels, 1))

    def forward(self, graph: NeighborGraph) -> Tensor:
        nodes = self.nodes(graph)
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        harmonics, basis = spherical_harmonics(self.config.lmax, pairs.vectors), self.radial_basis(pairs.lengths)
        blocks = [self.embedding[nodes][:, None, :]]
        for layer in self.layers:
            blocks = layer(blocks, harmonics, basis, pairs.edges)
        scalars = blocks[0][:, 0]
        if self.training and self.config.readout_dropout > 0:
            # of the difference to isolated atoms, which have no energy in training either: the readout is linear
            bound = scalars - scalars[graph.num_atoms :][nodes]
            scalars = nn.functional.dropout(bound, self.config.readout_dropout)
        return self.atom_energies(self.readout(scalars).squeeze(1), nodes, graph)

    def program(self) -> Predictor | None:
        """On a CPU, for products of two signals; its radial functions are tables."""
        from atomsml.potentials.facet.cpu import FacetOnCPU

        on_cpu = self.embedding.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        two_signals = self.config.pointwise == "product" and self.config.order == 2
        return FacetOnCPU(self) if on_cpu and two_signals else None

    @property
    def product_layers(self) -> list[ProductLayer]:
        """`layers` of our network, with their type."""
        return cast("list[ProductLayer]", list(self.layers))

    def hops(self) -> int:
        """One a layer."""
        return int(self.config.num_layers)

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of the readout."""
        return [list(self.readout.parameters())[-1]]
