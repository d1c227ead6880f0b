"""Hyperparameters of EGNN, of the network here and of that of the paper."""

from __future__ import annotations

from dataclasses import dataclass

from atomsml.config import check_hyperparameters, refuse_unread

OURS = ("coordinate_range", "num_bessel", "envelope_power", "readout_channels")
OF_THE_PAPER = ("attention", "moves")


@dataclass(frozen=True)
class EGNNConfig:
    """Hyperparameters of EGNN."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    cutoff: float = 5.0  # A
    channels: int = 128  # of features and messages
    num_layers: int = 4
    coordinate_range: float = 1.0  # how strongly neighbours move an atom, in units of the cutoff
    num_bessel: int = 8
    envelope_power: int = 5  # p of the polynomial envelope
    readout_channels: int = 64  # hidden width of the readout
    avg_num_neighbors: float = 1.0  # messages are divided by it, but not with paper; the mean of the training set
    scale: float = 1.0  # eV; interaction energies are scale * network + shift
    shift: float = 0.0  # eV per atom
    paper: bool = False  # the network as published, whose energies jump at the cutoff; false: ours, which is smooth
    attention: bool = False  # paper: gates of messages
    moves: bool = True  # paper: whether layers move atoms; false in the experiments of the paper on QM9

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                *("cutoff", "channels", "num_layers", "coordinate_range", "num_bessel", "envelope_power"),
                *("readout_channels", "avg_num_neighbors"),
            ),
            at_most={"num_layers": 16},
        )
        refuse_unread(self, OURS if self.paper else OF_THE_PAPER, f"paper {str(self.paper).lower()}")
