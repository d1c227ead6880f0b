"""NequIP: equivariant message passing with tensor products (S. Batzner et al., arXiv:2101.03164), and SevenNet.

One layer ("interaction block", figure 1 of the paper) takes features h to

    h'  =  gate( sum over l of  W_out A  +  W_self h ),      A = convolution(W_in h, Y, R) / avg_num_neighbors

where R(r) is a learned function of the distance for each path and channel: Bessel functions whose frequencies are
learned (or each layer's own combinations of splines), times an envelope, through a network. The energy of an atom is a
linear readout of the last layer's scalars.

| symbol | name | shape |
|---|---|---|
| h | blocks | for each l: (atoms, 2l + 1, channels[l]); scalars only before the first layer and after the last |
| R | radial weights | (pairs, paths x channels): the same in both directions of a pair of atoms |
| Y | harmonics | (edges, (lmax + 1)^2) |
| A | message | for each l: (atoms, 2l + 1, channels of the paths to l) |

With `parity` there are as many channels of each degree again, of the other parity: the blocks of pseudotensors follow,
pseudoscalars last (ops/graded_convolution/parity.py). Networks of the program nequip are written by fields of the
config, as are SevenNet's (Y. Park et al., arXiv:2402.03789); NEQUIP says which.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import pi, sqrt
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from atomsml.config import check_hyperparameters
from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.nn.linear import MLP, GradedLinear
from atomsml.o3 import solid_harmonics, spherical_harmonics
from atomsml.ops.activation import TANH_GAIN, silu
from atomsml.ops.convolution import Edges
from atomsml.ops.graded_convolution import graded_convolve, graded_table, parity_convolve, parity_table
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Potential, Predictor
from atomsml.potentials.corrections.zbl import lammps_zbl_energy
from atomsml.radial.bases import polynomial_envelope
from atomsml.radial.spline import cubic_b_spline

HARMONICS = {"spherical": spherical_harmonics, "solid": solid_harmonics}
# What makes a network that of the program nequip: fields of the config, beside sizes and `parity`.
NEQUIP: dict[str, Any] = {
    "self_connection": "embedding",
    "first_self_connection": False,
    "divide_by": "root",
    "readout_channels": None,
}


@dataclass(frozen=True)
class NequIPConfig:
    """Hyperparameters of NequIP."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: tuple[int, ...] = (128, 64, 32)  # multiplicity of l = 0, 1, ... between layers; must not rise
    lmax: int = 2  # highest degree of the spherical harmonics
    harmonics: Literal["spherical", "solid"] = "spherical"  # of directions, or of vectors: these grow as r^l
    num_layers: int = 5
    num_bessel: int = 8  # radial basis functions
    num_splines: int = 0  # where given, they are not Bessel functions: each layer makes its own of so many splines
    envelope_power: int = 6  # p of the polynomial envelope
    xplor_onset: float | None = None  # A; where given, the envelope is 1 up to there and XPLOR's from there on
    radial_mlp: tuple[int, ...] = (64, 64)  # hidden widths of the radial network; () for a linear map of the basis
    readout_channels: int | None = 64  # width between the two linear maps of the readout; None: a single map
    avg_num_neighbors: float = 1.0  # messages are divided by it; take the mean of the training set
    divide_by: Literal["number", "root"] = "number"  # avg_num_neighbors, or its square root
    embedding_channels: int | None = None  # width of the embedding of elements; None: channels[0]
    self_connection: Literal["element", "linear", "embedding"] = "element"
    # ^ a matrix for each element, or one for all, or sums of as many as the embedding is wide, weighted by it
    first_self_connection: bool = True  # of the first layer; False: an isolated atom has no energy of its own
    parity: bool = False  # both parities of each degree; False: the natural one, (-1)^l
    inversion: bool = True  # equivariant to it; False: features without parity, equivariant to rotations alone
    element_scales: bool = False  # a learned factor for the energies of each element
    scalar_biases: bool = False  # constants added to scalars: what a model of several levels of theory does for one
    relative_to_isolated: bool = True  # an isolated atom has exactly its reference energy; False: whatever comes out
    zbl: bool = False  # add Ziegler-Biersack-Littmark repulsion, which ends with the envelope at the cutoff
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=("cutoff", "num_layers", "num_bessel", "envelope_power", "avg_num_neighbors"),
            at_most={"lmax": 6, "num_layers": 16},
        )
        if self.num_splines != 0 and self.num_splines < 4:
            raise ValueError(f"num_splines must be 0 or at least 4, got {self.num_splines}")
        graded_table(self.channels, self.lmax, len(self.channels) - 1)  # refuses what cannot be
        if self.parity and not self.inversion:
            raise ValueError("parity must be False without inversion: features of both parities are equivariant to it")
        if self.xplor_onset is not None and not 0 <= self.xplor_onset < self.cutoff:
            raise ValueError(f"xplor_onset must lie between 0 and the cutoff {self.cutoff}, got {self.xplor_onset}")
        if self.self_connection not in ("element", "linear", "embedding"):
            raise ValueError(
                f"self_connection must be 'element', 'linear' or 'embedding', got {self.self_connection!r}"
            )
        if self.divide_by not in ("number", "root"):
            raise ValueError(f"divide_by must be 'number' or 'root', got {self.divide_by!r}")
        if self.harmonics not in HARMONICS:
            raise ValueError(f"harmonics must be one of {', '.join(HARMONICS)}, got {self.harmonics!r}")

    @property
    def embedding_width(self) -> int:
        return self.channels[0] if self.embedding_channels is None else self.embedding_channels


class NequIP(Potential):
    """The potential; `NequIP(NequIPConfig(elements=(1, 6, 8)))` has random weights and references of zero."""

    Config = NequIPConfig
    config: NequIPConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": (32, 16), "num_layers": 3, "radial_mlp": (32, 32), "readout_channels": 16},
        "medium": {"channels": (64, 32, 16), "num_layers": 4, "readout_channels": 32},
        # what nequip's NequIPGNNModel builds if nothing is said but the cutoff
        "paper": {**NEQUIP, "parity": True, "lmax": 1, "channels": (32, 32), "num_layers": 4, "radial_mlp": (128,)},
        "large": {},  # that of SevenNet-0
    }

    def __init__(self, config: NequIPConfig) -> None:
        super().__init__(config)
        self.radial_basis = RadialBasis(config)
        scalars = config.channels[:1]
        self.embedding = nn.Parameter(torch.randn(len(config.elements), config.embedding_width))
        layers: list[NequIPLayer] = []
        natural: tuple[int, ...] = (config.embedding_width,)
        pseudo: tuple[int, ...] = ()
        for i in range(config.num_layers):
            channels_out = config.channels if i < config.num_layers - 1 else scalars
            layers.append(NequIPLayer(config, natural, pseudo, channels_out, i > 0 or config.first_self_connection))
            natural, pseudo = channels_out, layers[-1].pseudo_out
        self.layers = nn.ModuleList(layers)
        widths = (scalars[0], 1) if config.readout_channels is None else (scalars[0], config.readout_channels, 1)
        self.readout = nn.ModuleList(
            GradedLinear((a,), (b,), bias=config.scalar_biases and i == 0)
            for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        if config.element_scales:
            self.element_scales = nn.Parameter(torch.ones(len(config.elements)))

    @classmethod
    def todays_config(cls, stored: dict[str, Any]) -> dict[str, Any]:
        """Before there was a field `inversion`, `parity` was its name, and features had one parity or none."""
        if "inversion" in stored or "parity" not in stored:
            return stored
        return {**stored, "inversion": stored["parity"], "parity": False}

    def forward(self, graph: NeighborGraph) -> Tensor:
        species = self.species(graph.numbers)
        nodes = self.nodes(graph) if self.config.relative_to_isolated else species
        pairs = PairGeometry.from_graph(graph, self.dtype, len(nodes))
        harmonics = HARMONICS[self.config.harmonics](self.config.lmax, pairs.vectors)
        basis = self.radial_basis(pairs.lengths)
        blocks = [self.embedding[nodes][:, None, :]]
        for layer in self.all_layers:
            blocks = layer(blocks, nodes, self.embedding, harmonics, basis, pairs.edges)
        for linear in self.readout:
            blocks = linear(blocks)
        network, relative = blocks[0].flatten(), self.config.relative_to_isolated
        found = self.atom_energies(network, nodes, graph) if relative else self.scaled(network, species, graph)
        return found + self._repulsion(pairs, graph).to(found.dtype) if self.config.zbl else found

    def _repulsion(self, pairs: PairGeometry, graph: NeighborGraph) -> Tensor:
        """(atoms,) eV: a half of that of each pair."""
        lengths, edges = pairs.of_edges(pairs.lengths), pairs.edges
        ends = graph.numbers[edges.sender], graph.numbers[edges.receiver]
        of_edges = lammps_zbl_energy(lengths, *ends, self.config.cutoff, self.config.envelope_power)
        return lengths.new_zeros(graph.num_atoms).index_add(0, pairs.edges.receiver, of_edges)

    def scaled(self, network: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        if self.config.element_scales:
            network = network.to(graph.dtype) * self.element_scales.to(graph.dtype)[species]
        return super().scaled(network, species, graph)

    @property
    def all_layers(self) -> list[NequIPLayer]:
        """`layers` with their type."""
        return cast("list[NequIPLayer]", list(self.layers))

    def program(self) -> Predictor | None:
        """On a CPU; its radial functions are tables. Pseudotensors have no program."""
        from atomsml.potentials.nequip.cpu import NequIPOnCPU

        on_cpu = self.embedding.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        return NequIPOnCPU(self) if on_cpu and not self.config.parity else None

    def hops(self) -> int:
        """One a layer."""
        return int(self.config.num_layers)

    def last_layer(self) -> list[nn.Parameter]:
        return list(self.readout[-1].parameters())


class RadialBasis(nn.Module):
    """sqrt(2 / rc) f(r) / r times the envelope, for the functions f that the layers share.

    They are sin(w r) for learned frequencies w, at first n pi / rc; or cubic B-splines of the same mean square when
    coefficients are N(0, 1 / num_splines), on equal intervals from 0 to the cutoff (atomsml/radial_spline.py).
    """

    def __init__(self, config: NequIPConfig) -> None:
        super().__init__()
        self.cutoff, self.power, self.onset = config.cutoff, config.envelope_power, config.xplor_onset
        self.num_splines = config.num_splines
        if self.num_splines == 0:
            self.frequencies = nn.Parameter(torch.arange(1, config.num_bessel + 1) * (pi / config.cutoff))  # 1/A

    def forward(self, lengths: Tensor) -> Tensor:
        """(pairs,) lengths in A -> (pairs, num_splines or num_bessel)."""
        if self.onset is None:
            envelope = polynomial_envelope(lengths, self.cutoff, self.power)
        else:
            envelope = xplor_envelope(lengths, self.onset, self.cutoff)
        if self.num_splines > 0:
            intervals = self.num_splines - 3
            knots = torch.arange(-1, intervals + 2, dtype=lengths.dtype, device=lengths.device)
            functions = sqrt(self.num_splines) * cubic_b_spline(lengths[:, None] * (intervals / self.cutoff) - knots)
        else:
            functions = torch.sin(self.frequencies * lengths[:, None])
        return functions * (sqrt(2 / self.cutoff) * envelope / lengths)[:, None]


def xplor_envelope(r: Tensor, onset: float, cutoff: float) -> Tensor:
    """A polynomial of r^2 that falls from 1 at the onset to 0 at the cutoff, with continuous first derivative.

    (rc^2 - r^2)^2 (rc^2 + 2 r^2 - 3 ro^2) / (rc^2 - ro^2)^3: the switching function of CHARMM, B. R. Brooks et al.,
    J. Comput. Chem. 4, 187 (1983), and of the program X-PLOR. Lengths in A, shapes (E,) -> (E,).
    """
    square = r * r
    falling = (cutoff**2 - square) ** 2 * (cutoff**2 + 2 * square - 3 * onset**2) / (cutoff**2 - onset**2) ** 3
    return torch.where(r < onset, 1.0, torch.where(r < cutoff, falling, 0.0))


class NequIPLayer(nn.Module):
    """One interaction block: the convolution, the self-connection and the gate.

    Args:
        channels_in: number of channels that come in of each degree, of natural parity.
        pseudo_in: of pseudotensors of degree 1, 2, ..., and of pseudoscalars last; what has not come up yet is missing.
        channels_out: of each degree, of each parity that the paths reach.
    """

    def __init__(
        self,
        config: NequIPConfig,
        channels_in: tuple[int, ...],
        pseudo_in: tuple[int, ...],
        channels_out: tuple[int, ...],
        self_connection: bool,
    ) -> None:
        super().__init__()
        self.divisor = config.avg_num_neighbors if config.divide_by == "number" else sqrt(config.avg_num_neighbors)
        self.channels_out, lmax_out = channels_out, len(channels_out) - 1
        self.table = graded_table(channels_in, config.lmax, lmax_out, not config.inversion)
        self.parity_table = parity_table(channels_in, pseudo_in, config.lmax, lmax_out) if config.parity else None
        paths = self.table if self.parity_table is None else self.parity_table
        reached = len(paths.channels_out) - len(channels_out)
        self.pseudo_out = (*channels_out[1:], channels_out[0])[:reached]
        gated = (*channels_out[1:], *self.pseudo_out[:lmax_out])  # each needs a scalar more
        before_gate = (sum((channels_out[0], *gated)), *channels_out[1:], *self.pseudo_out)
        self.linear_in = GradedLinear((*channels_in, *pseudo_in), paths.channels, bias=config.scalar_biases)
        own_basis = config.num_splines > 0
        self.basis = MLP((config.num_splines, config.num_bessel)) if own_basis else nn.Identity()
        self.radial = MLP((config.num_bessel, *config.radial_mlp, paths.num_weights))
        self.linear_out = GradedLinear(paths.channels_out, before_gate, bias=config.scalar_biases)
        matrices = {"element": len(config.elements), "embedding": config.embedding_width, "linear": 1}
        self.mixed = config.self_connection == "embedding"
        self.self_connection = (
            GradedLinear((*channels_in, *pseudo_in), before_gate, matrices[config.self_connection])
            if self_connection
            else None
        )

    def forward(
        self,
        blocks: Sequence[Tensor],
        nodes: Tensor,
        embedding: Tensor,
        harmonics: Tensor,
        basis: Tensor,
        edges: Edges,
    ) -> list[Tensor]:
        weights, features = self.radial(self.basis(basis)), self.linear_in(blocks)
        if self.parity_table is None:
            message = graded_convolve(features, harmonics, weights, edges, self.table)
        else:
            message = parity_convolve(features, harmonics, weights, edges, self.parity_table)
        out = self.linear_out([x / self.divisor for x in message])
        if self.self_connection is not None:
            kept = self.self_connection(blocks, nodes, embedding if self.mixed else None)
            out = [m if k is None else m + k for m, k in zip_longest(out, kept)]
        return gate(out, (*self.channels_out, *self.pseudo_out))


def gate(blocks: Sequence[Tensor], channels: Sequence[int]) -> list[Tensor]:
    """SiLU of the first channels[0] scalars; each other channel times the SiLU of a further scalar of its own.

    Pseudoscalars, a last block of one component, pass through tanh, which is odd as they are. The gated non-linearity
    of M. Weiler et al., arXiv:1807.02547, with nequip's activations, which keep unit variance.
    """
    gated = [c for x, c in zip(blocks[1:], channels[1:], strict=True) if x.shape[1] > 1]
    scalars, *gates = silu(blocks[0]).split([channels[0], *gated], dim=2)
    tensors = [x * g for x, g in zip(blocks[1:], gates, strict=False)]
    return [scalars, *tensors, *(TANH_GAIN * torch.tanh(x) for x in blocks[1 + len(gated) :])]
