"""Hyperparameters of Facet's two networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atomsml.config import check_hyperparameters, refuse_unread
from atomsml.ops.graded_convolution import graded_table


@dataclass(frozen=True)
class FacetConfig:
    """Hyperparameters of Facet; those after `readout_channels` belong to one network each."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: tuple[int, ...] = (128, 64, 32)  # multiplicity of l = 0, 1, ... between layers; must not rise
    lmax: int = 2  # highest degree of the spherical harmonics and of the signals on the sphere
    grid_channels: int = 64  # product: multiplicity of all degrees on the sphere
    order: int = 2  # product: number of signals multiplied with each other on the sphere
    num_layers: int = 2  # mlp: a last one follows, which has scalars only
    num_splines: int = 16  # product: basis functions of a radial function
    envelope_power: int = 5  # product: p of the polynomial envelope
    readout_channels: int = 16  # product: hidden width of the readout; mlp: scalars of the last layer
    avg_num_neighbors: float = 1.0  # messages are divided by its power 0.7; take the mean of the training set
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom
    pointwise: Literal["product", "mlp"] = "product"  # at points of the sphere: ours, or the network as published
    embedding_channels: int = 64  # mlp: width of the embedding of elements
    num_bessel: int = 8  # mlp: radial basis functions
    grid: tuple[int, int] = (32, 31)  # mlp: numbers of latitudes and of longitudes
    num_heads: int = 2  # mlp: parts of the channels at a point, which the same perceptron takes one by one
    pointwise_channels: int = 16  # mlp: hidden width of the perceptron
    readout_dropout: float = 0.0  # mlp: share of the last layer's scalars that are left out in training

    def __post_init__(self) -> None:
        positive = ("cutoff", "grid_channels", "order", "num_layers", "readout_channels", "avg_num_neighbors")
        check_hyperparameters(self, positive, at_most={"lmax": 6, "order": 6, "num_layers": 16})
        self._check_network()
        if self.num_splines < 4:
            raise ValueError(f"num_splines must be at least 4, got {self.num_splines}")
        if len(self.channels) > self.lmax + 1:
            raise ValueError(f"channels must be given for degrees up to lmax = {self.lmax}, got {self.channels}")
        graded_table(self.channels, self.lmax, self.lmax)  # refuses channels that rise

    def _check_network(self) -> None:
        refuse_unread(self, MLP_ONLY if self.pointwise == "product" else PRODUCT_ONLY, f"pointwise {self.pointwise}")
        if self.pointwise == "mlp":
            if len(self.channels) < 2:
                raise ValueError(f"channels must be given for l = 0 and 1 at least, got {self.channels}")
            if self.channels[1] % self.num_heads:
                raise ValueError(f"channels[1] must be a multiple of num_heads {self.num_heads}, got {self.channels}")
            if min(self.grid) < 2 * len(self.channels) - 1:
                raise ValueError(
                    f"grid must have 2 l + 1 points each way for l < {len(self.channels)}, got {self.grid}"
                )


PRODUCT_ONLY = ("grid_channels", "order", "num_splines", "envelope_power")
MLP_ONLY = ("embedding_channels", "num_bessel", "grid", "num_heads", "pointwise_channels", "readout_dropout")
