"""Hyperparameters of EquiformerV2, of the network here and of that of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atomsml.config import check_hyperparameters, refuse_unread

OURS = ("num_bessel", "envelope_power")
OF_THE_PAPER = (
    *("alpha_channels", "value_channels", "num_gaussians", "grid_resolution", "avg_num_atoms"),
    *("attention_renormalization", "activation", "norm", "direct_forces"),
    *("attention_dropout", "drop_path", "projection_dropout"),
)


@dataclass(frozen=True)
class EquiformerV2Config:
    """Hyperparameters of EquiformerV2."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 64  # of the features of atoms, the same for all degrees
    lmax: int = 3  # highest degree of features
    mmax: int = 2  # highest order in the frames of edges
    num_layers: int = 4
    num_heads: int = 4
    attention_channels: int = 64  # of messages; the heads share them out, but not with paper
    ffn_channels: int = 128  # hidden width of the feed-forward networks
    num_bessel: int = 8
    envelope_power: int = 5  # p of the polynomial envelope
    radial_mlp: tuple[int, ...] = (64, 64)  # hidden widths of the radial networks; paper: the last also of elements
    readout_channels: int = 64  # hidden width of the readout
    avg_num_neighbors: float = 1.0  # the embedding of neighbours is divided by it; take the mean of the training set
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom
    paper: bool = False  # the network as published: energies jump at the cutoff and turn with the axes; False: ours
    alpha_channels: int = 32  # paper: of the logits of each head
    value_channels: int = 16  # paper: of what each head passes on
    num_gaussians: int = 600  # paper: functions of the distance
    grid_resolution: int = 0  # paper: circles of latitude, and points on each, of all grids; 0: few
    avg_num_atoms: float = 1.0  # paper: energies are divided by it
    attention_renormalization: bool = True  # paper: a layer norm before the logits
    activation: Literal["separable_s2", "gate"] = "separable_s2"  # paper: SiLU on the sphere, or gates by scalars
    norm: Literal["separable", "degree", "joint"] = "separable"  # paper: which degrees one number normalises
    direct_forces: bool = False  # paper: forces of a head of their own, not the gradient of the energy: MD drifts
    attention_dropout: float = 0.0  # paper: share of attention weights that are left out in training
    drop_path: float = 0.0  # paper: share of updates that are left out in training, for a system as a whole
    projection_dropout: float = 0.0  # paper: share of channels of an update that are left out in training

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                *("cutoff", "channels", "num_layers", "num_heads", "attention_channels", "ffn_channels", "num_bessel"),
                *("readout_channels", "avg_num_neighbors"),
                *("alpha_channels", "value_channels", "avg_num_atoms"),
            ),
            at_most={"lmax": 8, "num_layers": 32},
        )
        if not 0 <= self.mmax <= self.lmax:
            raise ValueError(f"mmax must lie in 0..lmax = {self.lmax}, got {self.mmax}")
        refuse_unread(self, OURS if self.paper else OF_THE_PAPER, f"paper {str(self.paper).lower()}")
        if self.paper:
            self._check_paper()
        elif self.attention_channels % self.num_heads:
            raise ValueError(
                f"attention_channels must be a multiple of num_heads = {self.num_heads}, got {self.attention_channels}"
            )

    def _check_paper(self) -> None:
        if self.lmax < 1:
            raise ValueError("with paper features have directions: give lmax >= 1")
        if not self.radial_mlp:
            raise ValueError("with paper radial networks have a hidden layer: give radial_mlp one width or more")
        if 0 < self.grid_resolution < 2 * self.lmax + 1:
            raise ValueError(
                f"grid_resolution must be at least 2 lmax + 1 = {2 * self.lmax + 1}, with fewer points orders are "
                f"mistaken for each other; got {self.grid_resolution}"
            )
