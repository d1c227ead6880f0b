"""MACE: higher-order equivariant message passing (Batatia et al., arXiv:2206.07697).

Each layer gathers neighbours into the two-body basis A, multiplies A with itself up to `correlation` times into
the many-body basis B (eqs. 10, 11), and updates the node features with a linear map of B; readouts of every
layer's scalars add up to the energy of an atom.

| symbol | name | shape |
|---|---|---|
| h | features | (atoms, (hidden_lmax + 1)^2, channels) |
| R | radial weights | (pairs, paths, channels): the same in both directions of a pair of atoms |
| Y | harmonics | (edges, (lmax + 1)^2) |
| A | message | (atoms, (lmax + 1)^2, channels) |
| B | product | (atoms, (hidden_lmax + 1)^2, channels) |

Variants of the published models are fields of the config: a first layer without residual (MACE-OFF23), messages
normalised by a learned density, Agnesi-transformed distances and a ZBL core (MACE-MPA-0, MACE-MP-0b), gated
interactions (MACE-MH-1, gated.py). So is the product on the spherical grid (product.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import NeighborGraph
from atomsml.multipoles import ChargeHead, Multipoles
from atomsml.nn.linear import MLP, ElementLinear, IrrepLinear, irrep_blocks
from atomsml.o3 import spherical_harmonics
from atomsml.ops.convolution import Edges, convolution_table, convolve
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential, Predictor
from atomsml.potentials.corrections.zbl import EXPONENT, PREFACTOR, zbl_energy
from atomsml.potentials.mace.gated import GatedLayer
from atomsml.potentials.mace.product import PRODUCTS
from atomsml.radial.bases import CORE_BEGINS, agnesi_transform, bessel_basis, fade_in, polynomial_envelope


@dataclass(frozen=True)
class MACEConfig:
    """Hyperparameters of MACE."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 128  # multiplicity of every irrep
    hidden_lmax: int = 1  # highest degree of the node features between layers
    lmax: int = 3  # highest degree of the spherical harmonics and of A
    correlation: int = 3  # number of A factors in B: body order minus one
    product: Literal["clebsch_gordan", "gaunt"] = "clebsch_gordan"  # how A is multiplied with itself
    num_layers: int = 2
    num_bessel: int = 8
    envelope_power: int = 5  # p of the polynomial envelope
    radial_mlp: tuple[int, ...] = (64, 64, 64)  # hidden widths of the radial network
    readout_channels: int = 16  # hidden width of the last readout
    avg_num_neighbors: float = 1.0  # messages are divided by it; take the mean of the training set
    residual_first: bool = True  # False: the first layer mixes messages per element instead of adding a residual
    interaction: Literal["linear", "gated"] = "linear"  # "gated": the layers of gated.py
    edge_channels: int = 0  # channels that gated layers convolve; 0: all
    density_normalization: bool = False  # divide messages by a learned density instead of avg_num_neighbors
    distance_transform: Literal["none", "agnesi"] = "none"
    zbl: bool = False  # add Ziegler-Biersack-Littmark repulsion at short range
    inner_cutoff: float = 0.0  # A; closer pairs fade out of the network and leave each other to zbl; 0: none do
    core: float = 0.0  # of the sum of two covalent radii; closer pairs fade out of the messages; 0: none do
    scale_zbl: bool = True  # multiply the repulsion by scale, as published files do; the sizes of new models do not
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom
    charges: bool = False  # charges of atoms, dipoles and quadrupoles of molecules, from a head of their own

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                "cutoff",
                "channels",
                "correlation",
                "num_layers",
                "num_bessel",
                "readout_channels",
                "avg_num_neighbors",
            ),
            at_most={"lmax": 6, "correlation": 6, "num_layers": 16},
        )
        if not 0 <= self.hidden_lmax <= self.lmax:
            raise ValueError(f"hidden_lmax must lie in 0..lmax = {self.lmax}, got {self.hidden_lmax}")
        if self.product == "clebsch_gordan" and self.correlation > 3:
            raise ValueError(f"correlation must be at most 3 unless product is gaunt, got {self.correlation}")
        if not 0 <= self.inner_cutoff < self.cutoff:
            raise ValueError(f"inner_cutoff must lie in 0..cutoff = {self.cutoff}, got {self.inner_cutoff}")
        if self.inner_cutoff > 0 and not self.zbl:
            raise ValueError("inner_cutoff takes close pairs out of the network, and without zbl nothing repels them")
        if self.interaction not in ("linear", "gated"):
            raise ValueError(f"interaction must be 'linear' or 'gated', got {self.interaction!r}")
        if self.interaction == "linear" and self.edge_channels > 0:
            raise ValueError("edge_channels are of gated interactions; linear ones convolve all channels")
        if self.core > 0 and (not self.zbl or self.density_normalization or self.interaction == "gated"):
            raise ValueError("core leaves close pairs to zbl, and needs messages that no density divides")
        if self.interaction == "gated" and (self.density_normalization or not self.residual_first):
            raise ValueError("gated interactions have residuals and a density of their own, and no others")
        if self.interaction == "gated" and not self.radial_mlp:
            raise ValueError("gated interactions need a hidden layer in their radial network: radial_mlp is empty")
        if self.distance_transform not in ("none", "agnesi"):
            raise ValueError(f"distance_transform must be 'none' or 'agnesi', got {self.distance_transform!r}")
        if self.product not in PRODUCTS:
            raise ValueError(f"product must be one of {', '.join(PRODUCTS)}, got {self.product!r}")


class MACE(Potential):
    """The potential; `MACE(MACEConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = MACEConfig
    config: MACEConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 64, "lmax": 2, "radial_mlp": (32, 32), "scale_zbl": False},
        "medium": {"channels": 64, "scale_zbl": False},
        "large": {"scale_zbl": False},  # that of the published models
    }

    def __init__(self, config: MACEConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.channels))
        last = config.num_layers - 1
        layers: list[nn.Module] = []
        for i in range(config.num_layers):
            lmax_in, lmax_out = (0 if i == end else config.hidden_lmax for end in (0, last))
            if config.interaction == "gated":
                layers.append(GatedLayer(config, lmax_in, lmax_out))
            else:
                layers.append(MACELayer(config, lmax_in, lmax_out, residual=config.residual_first or i > 0))
        self.layers = nn.ModuleList(layers)
        self.readouts = nn.ModuleList(
            MLP((config.channels, config.readout_channels, 1) if i == last else (config.channels, 1))
            for i in range(config.num_layers)
        )
        self.radial_basis = RadialBasis(config)
        if config.zbl:
            self.zbl = ZBL(config.envelope_power, config.scale if config.scale_zbl else 1.0)
        if config.charges:  # last, so that the other weights are those of the same seed without it
            vectors = last * config.channels if config.hidden_lmax > 0 else 0
            self.charge_head = ChargeHead(config.num_layers * config.channels, vectors, config.channels)

    def forward(self, graph: NeighborGraph) -> Tensor:
        return self._energies(graph)[0]

    def forward_with_multipoles(self, graph: NeighborGraph) -> tuple[Tensor, Multipoles]:
        assert self.charge_head is not None
        energies, features = self._energies(graph)
        return energies, self.charge_head(*scalars_and_vectors(features), graph, self.total_charge)

    def _energies(self, graph: NeighborGraph) -> tuple[Tensor, list[Tensor]]:
        """(atoms,) eV, and the features that each layer makes."""
        species = self.species(graph.numbers)
        pairs = PairGeometry.from_graph(graph, self.dtype)
        harmonics = spherical_harmonics(self.config.lmax, pairs.vectors)
        if self.config.core > 0:  # messages are linear in the harmonics
            harmonics = harmonics * pairs.of_edges(self._outside_cores(pairs, species))[:, None]
        basis, envelope = self.radial_basis.parts(pairs.lengths, *pairs.ends(graph.numbers))
        features = self.embedding[species][:, None, :]
        energies, made = features.new_zeros(len(species)), []
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            features = layer(features, species, harmonics, basis, envelope, pairs.edges)
            energies = energies + readout(features[:, 0]).squeeze(1)
            made.append(features)
        found = self.scaled(energies, species, graph)
        if self.config.zbl:
            found = found + self.zbl(pairs.of_edges(pairs.lengths), graph.numbers, pairs.edges).to(found.dtype)
        return found, made

    @property
    def cores(self) -> Tensor:
        """(elements,) float64, A: pairs fade that are closer than the sum of theirs."""
        return self.config.core * torch.from_numpy(covalent_radii)[list(self.config.elements)]

    def _outside_cores(self, pairs: PairGeometry, species: Tensor) -> Tensor:
        """(pairs,) 1 for atoms as far apart as they are in matter, 0 where only their repulsion is known."""
        ends = self.cores.to(pairs.lengths)[pairs.ends(species)].sum(0)
        return fade_in(pairs.lengths, ends, CORE_BEGINS * ends)

    @property
    def all_layers(self) -> list[MACELayer]:
        """`layers` with their type."""
        return cast("list[MACELayer]", list(self.layers))

    @property
    def all_readouts(self) -> list[MLP]:
        """`readouts` with their type."""
        return cast("list[MLP]", list(self.readouts))

    def program(self) -> Predictor | None:
        """On a CPU; its radial functions are tables. There is none for products on the grid and gated interactions."""
        from atomsml.potentials.mace.cpu import MACEOnCPU

        on_cpu = self.embedding.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        has_one = self.config.product == "clebsch_gordan" and self.config.interaction == "linear"
        return MACEOnCPU(self) if on_cpu and has_one else None

    def hops(self) -> int:
        """One a layer."""
        return int(self.config.num_layers)

    def last_layer(self) -> list[nn.Parameter]:
        """The last matrix of every readout."""
        return [list(readout.parameters())[-1] for readout in self.readouts]


def scalars_and_vectors(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What a charge head reads of the features of all layers: (atoms, scalars), and (atoms, 3, vectors)."""
    vectors = [x[:, 1:4] for x in features if x.shape[1] >= 4]
    scalars = torch.cat([x[:, 0] for x in features], dim=1)
    return scalars, torch.cat(vectors, dim=2) if vectors else scalars.new_zeros(len(scalars), 3, 0)


class RadialBasis(nn.Module):
    """Bessel functions of the (perhaps transformed) distance times the envelope of the distance itself.

    Below an inner cutoff they fade as well: a network is a polynomial of high degree in its messages, and at
    distances that no training set has it may say anything, from -1e13 eV to 1e14 eV.
    """

    def __init__(self, config: MACEConfig) -> None:
        super().__init__()
        self.cutoff, self.num_bessel, self.power = config.cutoff, config.num_bessel, config.envelope_power
        self.inner_cutoff = config.inner_cutoff
        self.agnesi = AgnesiTransform() if config.distance_transform == "agnesi" else None

    def forward(self, lengths: Tensor, z_sender: Tensor, z_receiver: Tensor) -> Tensor:
        """(pairs,) lengths in A -> (pairs, num_bessel)."""
        functions, envelope = self.parts(lengths, z_sender, z_receiver)
        return functions * envelope[:, None]

    def parts(self, lengths: Tensor, z_sender: Tensor, z_receiver: Tensor) -> tuple[Tensor, Tensor]:
        """The Bessel functions (pairs, num_bessel), and the envelope (pairs,)."""
        x = lengths if self.agnesi is None else self.agnesi(lengths, z_sender, z_receiver)
        envelope = polynomial_envelope(lengths, self.cutoff, self.power)
        if self.inner_cutoff > 0:
            envelope = envelope * fade_in(lengths, self.inner_cutoff)
        return bessel_basis(x, self.cutoff, self.num_bessel), envelope


class AgnesiTransform(nn.Module):
    """agnesi_transform with r0 half the sum of the covalent radii of a pair; q, p, a come with a model."""

    parameters_qpa: Tensor
    covalent_radii: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("parameters_qpa", torch.tensor([0.9183, 4.5791, 1.0805], dtype=torch.float64))
        self.register_buffer("covalent_radii", torch.tensor(covalent_radii), persistent=False)

    def forward(self, lengths: Tensor, z_sender: Tensor, z_receiver: Tensor) -> Tensor:
        radii = self.covalent_radii.to(lengths)
        r0 = 0.5 * (radii[z_sender] + radii[z_receiver])
        q, p, a = self.parameters_qpa.to(lengths)
        return agnesi_transform(lengths, r0, q, p, a)


class ZBL(nn.Module):
    """zbl_energy, times a factor, summed over the neighbours of each atom; exponent and prefactor come with a model."""

    screening: Tensor

    def __init__(self, power: int, factor: float) -> None:
        super().__init__()
        self.power, self.factor = power, factor
        self.register_buffer("screening", torch.tensor([EXPONENT, PREFACTOR], dtype=torch.float64))

    def forward(self, lengths: Tensor, numbers: Tensor, edges: Edges) -> Tensor:
        """(edges,) lengths -> (atoms,) energies in eV."""
        exponent, prefactor = self.screening.to(lengths)
        edge_energies = zbl_energy(
            lengths, numbers[edges.sender], numbers[edges.receiver], self.power, exponent, prefactor
        )
        return lengths.new_zeros(len(numbers)).index_add(0, edges.receiver, self.factor * edge_energies)


class MACELayer(nn.Module):
    """One interaction (A) and product (B), and the update of the node features."""

    def __init__(self, config: MACEConfig, lmax_in: int, lmax_out: int, residual: bool) -> None:
        super().__init__()
        c, num_elements = config.channels, len(config.elements)
        self.config, self.lmax_in, self.residual = config, lmax_in, residual
        self.table = convolution_table(lmax_in, config.lmax, config.lmax)
        self.linear_up = IrrepLinear([c] * (lmax_in + 1), c)
        self.radial = MLP((config.num_bessel, *config.radial_mlp, len(self.table.paths) * c))
        self.linear = IrrepLinear([len(paths) * c for paths in self.table.by_degree.values()], c)
        self.density = MLP((config.num_bessel, 1)) if config.density_normalization else None
        self.skip = ElementLinear(num_elements, c, min(lmax_in, lmax_out) if residual else config.lmax)
        self.product = PRODUCTS[config.product](num_elements, c, config.lmax, config.correlation, lmax_out)
        self.linear_out = IrrepLinear([c] * (lmax_out + 1), c)
        self.lmax_out = lmax_out

    def forward(
        self, features: Tensor, species: Tensor, harmonics: Tensor, basis: Tensor, envelope: Tensor, edges: Edges
    ) -> Tensor:
        message = self._message(features, harmonics, basis * envelope[:, None], edges)
        if not self.residual:
            message = self.skip(message, species)
        product = self.product(message, species)
        updated: Tensor = self.linear_out(irrep_blocks(product, self.lmax_out))
        if not self.residual:
            return updated
        residual = self.skip(features, species)
        missing = updated.shape[1] - residual.shape[1]  # the first layer's features are scalars only
        return updated + nn.functional.pad(residual, (0, 0, 0, missing))

    def _message(self, features: Tensor, harmonics: Tensor, basis: Tensor, edges: Edges) -> Tensor:
        """A: (atoms, (lmax + 1)^2, channels)."""
        up = self.linear_up(irrep_blocks(features, self.lmax_in))
        weights = self.radial(basis).view(len(basis), len(self.table.paths), self.config.channels)
        scale = 1 / self.config.avg_num_neighbors if self.density is None else 1.0
        message: Tensor = self.linear(convolve(up, harmonics, weights, edges, self.table), scale)
        if self.density is None:
            return message
        edge_density = torch.tanh(self.density(basis).squeeze(1) ** 2)
        density = edge_density.new_zeros(len(features)).index_add(0, edges.receiver, edge_density[edges.weight_row])
        return message / (density + 1)[:, None, None]
