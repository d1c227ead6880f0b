"""Replica exchange: the trajectories of replicas, which climb through the temperatures of a run."""

from __future__ import annotations

import numpy as np

from atomsml.io.trajectory.reader import SystemTrajectory, Trajectory


class ReplicaTrajectory(SystemTrajectory):
    """The frames of one replica, wherever on the ladder it was; the systems of such a run are its temperatures."""

    def __init__(self, trajectory: Trajectory, index: int) -> None:
        super().__init__(trajectory, index)
        self.name = f"replica {index}"

    def __len__(self) -> int:
        """Frames that all temperatures have."""
        return int(self.trajectory.frames.min())

    def read(self, name: str, frames: slice = slice(None)) -> np.ndarray:
        rows = slice(*frames.indices(len(self)))
        places = np.stack([rung.read("replica", rows) for rung in self.trajectory.systems]) == self.index
        values = np.stack([rung.read(name, rows) for rung in self.trajectory.systems])
        found: np.ndarray = values[places.argmax(axis=0), np.arange(values.shape[1])]
        return found


def replicas_of(trajectory: Trajectory) -> list[SystemTrajectory]:
    """
    Raises:
        ValueError: no replicas were exchanged.
    """
    if "replica" not in trajectory.quantities:
        raise ValueError(f"{trajectory.path} is of no run that exchanged replicas")
    return [ReplicaTrajectory(trajectory, i) for i in range(len(trajectory.systems))]
