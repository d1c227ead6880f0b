"""What a run was like in time: the log, means and drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from atomsml.io.trajectory import SystemTrajectory
    from atomsml.simulate.md import Frame

# of the log, the columns after step and time, with as many digits
COLUMNS = {
    "potential_eV": 8,
    "kinetic_eV": 8,
    "total_eV": 8,
    "temperature_K": 3,
    "conserved_eV": 8,
    "pressure_GPa": 6,
    "volume_A^3": 5,
}


@dataclass(frozen=True)
class Series:
    """Of one structure; pressure and volume are not finite where there is no cell."""

    step: np.ndarray  # (frames,)
    time: np.ndarray  # fs
    values: Mapping[str, np.ndarray]  # by the keys of COLUMNS

    def __len__(self) -> int:
        return len(self.step)

    def write(self, file: IO[str], number: int | None = None) -> None:
        """Lines of the log; of one structure of several with its number first."""
        before = "" if number is None else f"{number},"
        for i in range(len(self)):
            file.write(before + line(int(self.step[i]), float(self.time[i]), {k: v[i] for k, v in self.values.items()}))

    def mean(self, column: str) -> float | None:
        """None where nothing is known."""
        values = self.values[column]
        return float(values.mean()) if len(values) and np.isfinite(values).all() else None

    def drift(self, atoms: int) -> float | None:
        """meV per atom by which the conserved energy changed over the run, along a straight line through it."""
        if len(self) < 2:
            return None
        slope, _ = np.polyfit(self.time, self.values["conserved_eV"], 1)
        return float(slope * (self.time[-1] - self.time[0]) / atoms * 1000)


def header(several: bool = False) -> str:
    return ",".join([*(["system"] if several else []), "step", "time_fs", *COLUMNS]) + "\n"


def line(step: int, time: float, values: Mapping[str, float]) -> str:
    """Of the log; nothing stands where a value is not finite."""
    cells = [f"{values[name]:.{digits}f}" if np.isfinite(values[name]) else "" for name, digits in COLUMNS.items()]
    return ",".join([str(step), f"{time:.3f}", *cells]) + "\n"


def values_of(frame: Frame) -> dict[str, np.ndarray]:
    """The columns of the log for each system of a frame, (systems,)."""
    from atomsml.units import GPA

    volume = frame.volume.where(frame.state.pbc.all(dim=1), float("nan"))
    found = {
        "potential_eV": frame.potential,
        "kinetic_eV": frame.kinetic,
        "total_eV": frame.potential + frame.kinetic,
        "temperature_K": frame.temperature,
        "conserved_eV": frame.conserved,
        "pressure_GPa": frame.pressure / GPA,
        "volume_A^3": volume,
    }
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def series_of(system: SystemTrajectory) -> Series:
    """Of a structure in the file of a run."""
    from atomsml.units import GPA

    frames = len(system)
    nothing = np.full(frames, np.nan)
    energy, kinetic = system.read("energy"), system.read("kinetic")
    has_pressure = "pressure" in system.trajectory.quantities
    volume = np.abs(np.linalg.det(system.read("cell"))) if system.pbc.all() else nothing
    values = {
        "potential_eV": energy,
        "kinetic_eV": kinetic,
        "total_eV": energy + kinetic,
        "temperature_K": system.read("temperature"),
        "conserved_eV": system.read("conserved"),
        "pressure_GPa": system.read("pressure") / GPA if has_pressure else nothing,
        "volume_A^3": volume,
    }
    steps = np.arange(frames) * system.trajectory.interval
    return Series(steps, system.times(), values)
