"""The network of Symphony: features of the atoms of fragments, and what is read from them.

A molecule has a fragment for each of its prefixes, and what an atom is told depends on which others are there. Layer t
adds up what the atoms j of a fragment k send to its atom i, then multiplies the sums point by point on the sphere:

    A_ki = sum_(j in k) R_t(r_ij) Y(u_ij) W_t h_kj,      h_ki <- h_ki + GridMLP_t([A_ki, h_ki])

Only the scalars of h_kj are sent. The geometry R Y of a pair is therefore the same in all fragments of a molecule: it
is computed once, and the sums of all fragments are one matrix product for each channel. Packing fragments as graphs of
their own would compute N^3 / 3 geometries instead of N^2, and masking later atoms as language models do would hide them
from earlier ones for good. Angles, and dihedrals by the next layer, enter by the products (`atomsml.nn.sphere`).

| symbol | name | shape |
|---|---|---|
| which atoms a fragment has | fragments | (samples, fragments, nodes) bool; the true entries are the states |
| h | features | (states, (lmax + 1)^2, channels) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atomsml.generative.molecules.symphony.config import SymphonyConfig
from atomsml.generative.molecules.symphony.distribution import (
    DirectionDistribution,
    DistanceDistribution,
    PositionDistribution,
    bounded,
)
from atomsml.nn.linear import MLP, IrrepLinear
from atomsml.nn.sphere import GridMLP
from atomsml.o3.s2_grid import all_components
from atomsml.o3.spherical_harmonics import spherical_harmonics
from atomsml.radial.bases import gaussian_basis, polynomial_envelope

MOST_SEEN = 10.0  # atoms of one element: a composition divided by it is of order 1
FARTHEST = 3.0  # Angstrom: bonds are shorter
SPACING = 0.1  # Angstrom: of the functions by which directions depend on the distance
NARROWEST = 0.004  # of the mixture of distances, relative
CURVATURE = 300.0  # of exp f: a peak is at least 3.3 degrees wide
LATITUDES = 36  # at which that curvature is integrated to 1e-4 (tests/generative/molecules/symphony)
REACH = 2.0  # of coefficients at the start


@dataclass(frozen=True)
class Fragments:
    """Fragments of molecules."""

    species: Tensor  # (samples, nodes) 0 ... elements - 1; anything at padding
    positions: Tensor  # (samples, nodes, 3), Angstrom
    members: Tensor  # (samples, fragments, nodes) bool
    heavy_first: Tensor  # (samples,) bool: in which order they grow


class SymphonyNetwork(nn.Module):
    """Features h of the module docstring, equivariant exactly, and the heads that read them."""

    def __init__(self, config: SymphonyConfig) -> None:
        super().__init__()
        elements, channels, lmax, num_layers = len(config.elements), config.channels, config.lmax, config.num_layers
        self.elements, self.lmax, self.cutoff, self.num_gaussians = elements, lmax, config.cutoff, config.num_gaussians
        self.norm = 1 / math.sqrt(config.avg_num_neighbors)
        self.embedding = nn.Parameter(torch.randn(elements, channels))
        self.composition = MLP((elements + 2, channels, channels))
        self.radial = nn.ParameterList(
            nn.Parameter(torch.randn(config.num_gaussians, (lmax + 1) * channels)) for _ in range(num_layers)
        )
        self.send = nn.ParameterList(nn.Parameter(torch.randn(channels, channels)) for _ in range(num_layers))
        components = all_components(lmax)
        self.update = nn.ModuleList(
            GridMLP(components, 2 * channels, config.hidden, channels) for _ in range(num_layers)
        )
        self.heads = Heads(config)

    def forward(self, fragments: Fragments) -> Tensor:
        """(states, (lmax + 1)^2, channels)."""
        members = fragments.members
        sample, fragment, atom = members.nonzero(as_tuple=True)
        vectors = fragments.positions[:, None] - fragments.positions[:, :, None]  # (samples, receiver, sender, 3)
        r = torch.linalg.vector_norm(vectors, dim=3)
        near = (r > 0) & (r < self.cutoff)
        basis = gaussian_basis(r, self.cutoff, self.num_gaussians) * polynomial_envelope(r, self.cutoff, 5)[..., None]
        basis, harmonics = basis * near[..., None], spherical_harmonics(self.lmax, vectors)
        scalars = self._embed(fragments, sample, fragment, atom)
        features = scalars[:, None] * torch.eye(harmonics.shape[3], 1, dtype=scalars.dtype, device=scalars.device)
        for radial, send, update in zip(self.radial, self.send, self.update, strict=True):
            sent = features[:, 0] @ (send / math.sqrt(len(send)))
            sums = self._sums(harmonics, basis @ (radial / math.sqrt(len(radial))), sent, members)
            features = features + update(torch.cat([self.norm * sums, features], dim=2))
        return features

    def _embed(self, fragments: Fragments, sample: Tensor, fragment: Tensor, atom: Tensor) -> Tensor:
        """(states, channels): the element, and what the fragment consists of."""
        kinds = fragments.species[:, :, None] == torch.arange(self.elements, device=sample.device)
        counts = (fragments.members.to(self.embedding) @ kinds.to(self.embedding)) / MOST_SEEN
        order = fragments.heavy_first.to(counts)[:, None, None].expand(-1, counts.shape[1], 1)
        known = self.composition(torch.cat([counts, order, torch.ones_like(order)], dim=2))
        return self.embedding[fragments.species[sample, atom]] + known[sample, fragment]

    def _sums(self, harmonics: Tensor, radial: Tensor, sent: Tensor, members: Tensor) -> Tensor:
        """A: (states, components, channels)."""
        samples, nodes, components = *harmonics.shape[:2], harmonics.shape[3]
        channels = sent.shape[1]
        dense = sent.new_zeros(*members.shape, channels).index_put((members,), sent)
        degrees = [2 * l + 1 for l in range(self.lmax + 1)]
        geometry = torch.cat(
            [
                y.permute(0, 1, 3, 2)[:, None] * w.permute(0, 3, 1, 2)[:, :, :, None]
                for y, w in zip(harmonics.split(degrees, dim=3), radial.split(channels, dim=3), strict=True)
            ],
            dim=3,
        )  # (samples, channels, receiver, components, sender)
        sums = geometry.flatten(0, 1).flatten(1, 2) @ dense.permute(0, 3, 2, 1).flatten(0, 1)
        sums = sums.reshape(samples, channels, nodes, components, -1).permute(0, 4, 2, 3, 1)
        return sums[members]


class Heads(nn.Module):
    """What is read from features: which atom is the focus and which element comes there, and where it goes."""

    def __init__(self, config: SymphonyConfig) -> None:
        super().__init__()
        elements, channels, lmax, width = len(config.elements), config.channels, config.lmax, config.readout_channels
        self.lmax, self.num_mixtures = lmax, config.num_mixtures
        self.focus = MLP((channels, width, width, elements))
        self.element = nn.Parameter(torch.randn(elements, channels))
        self.trunk = MLP((2 * channels + 1, width, width))
        self.distance = MLP((width, width, 3 * config.num_mixtures))
        self.gates = MLP((width + round(FARTHEST / SPACING) + 1, width, (lmax + 1) * channels))
        self.product = GridMLP(all_components(lmax), channels, 2 * channels, channels, order=3)
        self.peaks = IrrepLinear([channels] * (lmax + 1), config.num_peaks)
        # longer bonds further on: 0.85 to 2.3 Angstrom
        self.register_buffer("first_centres", torch.linspace(math.log(0.85), math.log(2.3), config.num_mixtures))

    first_centres: Tensor

    def next_atom(self, features: Tensor) -> Tensor:
        """(states, elements) logits of focus and element; that of stopping is 0."""
        return self.focus(features[:, 0])

    def position(self, features: Tensor, species: Tensor) -> PositionDistribution:
        """Of an atom of element `species` (n,) relative to the focus, whose features are (n, components, channels)."""
        trunk = self.trunk(torch.cat([features[:, 0], self.element[species], torch.ones_like(features[:, 0, :1])], 1))
        weights, shifts, widths = self.distance(trunk).split(self.num_mixtures, dim=1)
        distances = DistanceDistribution(
            torch.log_softmax(weights, dim=1),
            self.first_centres + 0.3 * torch.tanh(0.3 * shifts),
            NARROWEST + 0.1 * torch.nn.functional.softplus(widths - 1),
        )

        def directions(r: Tensor) -> DirectionDistribution:
            basis = gaussian_basis(r.clamp(max=FARTHEST), FARTHEST, round(FARTHEST / SPACING) + 1)
            gates = self.gates(torch.cat([trunk, basis], dim=1)).unflatten(1, (self.lmax + 1, -1))
            degrees = [2 * l + 1 for l in range(self.lmax + 1)]
            gated = torch.cat(
                [
                    f * (1 + g[:, None])
                    for f, g in zip(features.split(degrees, dim=1), gates.unbind(dim=1), strict=True)
                ],
                dim=1,
            )
            found = self.peaks((gated + self.product(gated)).split(degrees, dim=1), REACH)
            return DirectionDistribution(bounded(found.transpose(1, 2), CURVATURE), LATITUDES)

        return PositionDistribution(distances, directions)
