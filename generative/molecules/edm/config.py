"""Hyperparameters of EDM."""

from __future__ import annotations

from dataclasses import dataclass

from atomsml.config import check_hyperparameters, refuse_unread


@dataclass(frozen=True)
class EDMConfig:
    """Hyperparameters of EDM; `paper` chooses the network as published."""

    elements: tuple[int, ...]  # atomic numbers, ascending
    conditions: tuple[str, ...] = ()  # properties that may be asked for
    num_formulas: int = 0  # distinct compositions in the training set
    channels: int = 256  # of features and messages
    num_layers: int = 9
    coordinate_range: float = 15.0  # A; how far, at most, a neighbour moves an atom: in all, with paper in each layer
    avg_num_neighbors: float = 17.0  # messages are divided by it; the mean of the training set, in the paper 1
    element_scale: float = 0.25  # of one-hot elements, beside positions in A
    number_scale: float | None = 0.1  # of atomic numbers; null: elements are known by their one-hot vectors alone
    num_timesteps: int = 1000  # T
    condition_dropout: float = 0.1  # how often training hides the conditions, so that guidance can leave them out
    paper: bool = False  # the network as published; false: ours
    num_sublayers: int = 1  # paper: rounds of messages before each move of the atoms

    def __post_init__(self) -> None:
        check_hyperparameters(
            self,
            positive=(
                *("channels", "num_layers", "coordinate_range", "avg_num_neighbors", "element_scale"),
                *("num_timesteps", "num_sublayers"),
            ),
            at_most={
                "channels": 4096,
                "num_layers": 32,
                "num_sublayers": 8,
                "num_timesteps": 100_000,
                "num_formulas": 10**6,
            },
        )
        if self.num_formulas < 0:
            raise ValueError(f"num_formulas must not be negative, got {self.num_formulas}")
        if not 0 <= self.condition_dropout <= 1:
            raise ValueError(f"condition_dropout must be between 0 and 1, got {self.condition_dropout}")
        if not self.paper:
            refuse_unread(self, ("num_sublayers",), "paper false")
        if self.paper and self.conditions and self.condition_dropout > 0:
            raise ValueError(
                "the published network is told every condition; set condition_dropout to 0 with paper true"
            )

    @property
    def num_features(self) -> int:
        """One-hot elements and, if it is there, the atomic number."""
        return len(self.elements) + (self.number_scale is not None)
