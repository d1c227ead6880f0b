"""Hyperparameters of eSCN, of the network here and of that of the paper."""

from __future__ import annotations

from dataclasses import dataclass

from atomsml.config import check_hyperparameters, refuse_unread

OURS = ("num_bessel", "envelope_power", "readout_channels", "parity")
OF_THE_PAPER = ("num_gaussians", "gaussian_width", "num_sphere_points", "grid_resolution")


@dataclass(frozen=True)
class ESCNConfig:
    """Hyperparameters of eSCN."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 64  # multiplicity of every degree of the features of atoms
    hidden_channels: int = 64  # the same of messages, and of the products of an update
    lmax: int = 3  # highest degree of features and messages
    mmax: int = 2  # highest order |m| about its edge that a message keeps
    num_layers: int = 2
    num_bessel: int = 8
    envelope_power: int = 5  # p of the polynomial envelope
    radial_mlp: tuple[int, ...] = (64,)  # hidden widths of the radial networks; with paper one: what describes an edge
    unit_basis: bool = False  # Bessel functions of unit mean square for radial networks; False: files of version 0.1
    readout_channels: int = 16  # hidden width of the readout
    avg_num_neighbors: float = 1.0  # messages are divided by it, but not with paper; the mean of the training set
    parity: bool = True  # False: matrices that mix +m and -m as in the paper, blind to mirror symmetry
    direct_forces: bool = False  # forces of a head of their own, which are not the gradient of the energy: MD drifts
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom
    paper: bool = False  # the network as published: energies jump at the cutoff and turn with the axes; False: ours
    num_gaussians: int = 250  # paper: functions of the distance, one for each 0.02 A as published
    gaussian_width: float = 1.0  # paper: standard deviation of each over the distance from one to the next
    num_sphere_points: int = 128  # paper: points on the sphere at which energies and forces are read
    grid_resolution: int = 0  # paper: circles of latitude, and points on each, of all grids; 0: few, as published

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                *("cutoff", "channels", "hidden_channels", "num_layers", "num_bessel", "readout_channels"),
                *("avg_num_neighbors", "gaussian_width", "num_sphere_points"),
            ),
            at_most={"lmax": 8, "num_layers": 32},
        )
        if not 0 <= self.mmax <= self.lmax:
            raise ValueError(f"mmax must lie in 0..lmax = {self.lmax}, got {self.mmax}")
        if self.direct_forces and self.lmax < 1:
            raise ValueError("direct_forces are read from features of degree 1: give lmax >= 1")
        refuse_unread(self, OURS if self.paper else OF_THE_PAPER, f"paper {str(self.paper).lower()}")
        if self.paper:
            self._check_paper()

    def _check_paper(self) -> None:
        if len(self.radial_mlp) != 1:
            raise ValueError(
                f"with paper radial_mlp is one width, that of what describes an edge; got {self.radial_mlp}"
            )
        if 0 < self.grid_resolution < 2 * self.lmax + 1:
            raise ValueError(
                f"grid_resolution must be at least 2 lmax + 1 = {2 * self.lmax + 1}, with fewer points orders are "
                f"mistaken for each other; got {self.grid_resolution}"
            )
