"""How md runs: the ensemble, what holds its temperature and pressure, and how these change on the way."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from atomsml.simulate.dynamics import CELL_MOTIONS, INTEGRATORS

if TYPE_CHECKING:
    import ase

    from atomsml.simulate.dynamics.integrator import Integrator
    from atomsml.simulate.schedules import Schedule


class Noun(NamedTuple):
    about: str  # for --help


ENSEMBLES = {
    "nve": Noun("constant energy"),
    "nvt": Noun("constant temperature, by --thermostat"),
    "npt": Noun("constant temperature and pressure, by --barostat"),
}
CONSTANT_ENERGY = {name: each for name, each in INTEGRATORS.items() if each.ensemble == "nve"}
THERMOSTATS = {name: each for name, each in INTEGRATORS.items() if each.ensemble == "nvt"}
BAROSTATS = {name: each for name, each in INTEGRATORS.items() if each.ensemble == "npt"}
CELLS = {name: Noun(about) for name, about in CELL_MOTIONS.items()}
LONG_FOR_HYDROGEN = 1.0  # fs


@dataclass(frozen=True)
class Settings:
    """What the command line says, checked.

    Raises:
        ValueError: a number that is out of range, words that are no ramp, or options that do not go together.
    """

    ensemble: str
    method: str  # a key of INTEGRATORS
    timestep: float  # fs
    steps: int
    interval: int  # steps from frame to frame
    temperature: str  # K: see `ramp`
    pressure: str  # GPa: likewise
    thermostat_time: float  # fs
    barostat_time: float  # fs
    cell: str  # a key of CELL_MOTIONS
    seed: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        self.integrator()

    @property
    def temperatures(self) -> Schedule:
        """K, at each step."""
        return ramp("temperature", self.temperature, self.steps)

    @property
    def pressures(self) -> Schedule:
        """GPa, at each step."""
        return ramp("pressure", self.pressure, self.steps)

    @property
    def is_constant(self) -> bool:
        """Whether neither temperature nor pressure change: otherwise no energy is conserved."""
        return len(self.temperatures.points) == len(self.pressures.points) == 1

    def integrator(self) -> Integrator[Any]:
        """What moves the atoms, with those of the settings that it asks for."""
        given = {
            "timestep": self.timestep,
            "temperature": self.temperatures,
            "pressure": self.pressures,
            "thermostat_time": self.thermostat_time,
            "barostat_time": self.barostat_time,
            "cell": self.cell,
            "seed": self.seed,
        }
        kind = INTEGRATORS[self.method].kind
        return kind(**{name: given[name] for name in inspect.signature(kind).parameters if name in given})

    def check(self, atoms: ase.Atoms) -> None:
        """Refuse atoms that cannot run in this way.

        Raises:
            ValueError: nothing can move, constraints that cannot be kept, or no cell for a barostat.
        """
        from atomsml.simulate.dynamics.cell_motion import check_movable
        from atomsml.simulate.state import State

        if not atoms.constraints and len(atoms) == 1:
            raise ValueError("a single atom cannot move when its centre of mass is at rest; give at least two")
        state = State.of([atoms])
        if float(state.degrees_of_freedom[0]) < 0.5:
            raise ValueError("nothing can move: constraints hold every atom")
        if self.ensemble == "npt":
            check_movable(state)


def method_of(ensemble: str, thermostat: str | None, barostat: str | None) -> str:
    """The key of INTEGRATORS that the options mean; by default langevin, and mtk.

    Raises:
        ValueError: a thermostat or barostat for an ensemble that has none.
    """
    if barostat is not None and ensemble != "npt":
        raise ValueError(f"--barostat {barostat} needs --ensemble npt; {ensemble} keeps the cell as it is")
    if thermostat is not None and ensemble != "nvt":
        why = "has no thermostat" if ensemble == "nve" else "takes the thermostat that its barostat brings"
        raise ValueError(f"--thermostat {thermostat} needs --ensemble nvt; {ensemble} {why}")
    if ensemble == "nvt":
        return thermostat or "langevin"
    return barostat or "mtk" if ensemble == "npt" else next(iter(CONSTANT_ENERGY))


def ramp(name: str, words: str, steps: int) -> Schedule:
    """Of "300" a constant, of "300:600" a straight line over the run, of "0=300,5000=600" lines between steps.

    "300:600:300" goes up in the first half and down in the second.

    Raises:
        ValueError: other words.
    """
    from atomsml.simulate.schedules import Schedule

    try:
        if "=" in words:
            pairs = [re.split("=", point) for point in words.split(",")]
            return Schedule(*((int(step), float(value)) for step, value in pairs))
        values = [float(value) for value in words.split(":")]
        if len(values) == 1:
            return Schedule((0, values[0]))
        return Schedule(*((round(i * steps / (len(values) - 1)), value) for i, value in enumerate(values)))
    except ValueError as error:
        raise ValueError(
            f"--{name} must be a number, a ramp as 300:600, or points as 0=300,5000=600 with steps that increase, "
            f"got {words!r}"
        ) from error
