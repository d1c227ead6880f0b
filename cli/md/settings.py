"""How md runs: the ensemble, what holds its temperature and pressure, and how these change on the way."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from itertools import pairwise
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
DEFAULT_EXCHANGE = 100  # steps between attempts to swap replicas


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
    replicas: tuple[float, ...] = ()  # K: temperatures between which replicas are exchanged, if they are
    exchange: int = DEFAULT_EXCHANGE  # steps between attempts
    rigid: str | None = None  # which bonds are

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.rigid not in (None, "hydrogens"):
            raise ValueError(f"--rigid must be hydrogens, got {self.rigid!r}")
        if self.rigid and self.ensemble == "npt":
            raise ValueError("--rigid needs a constant volume: --ensemble nve or nvt")
        if self.replicas and self.ensemble != "nvt":
            raise ValueError(f"--replicas needs --ensemble nvt; {self.ensemble} does not hold temperatures at a volume")
        if self.replicas and not 1 <= self.exchange <= self.steps:
            raise ValueError(f"--exchange must be from 1 to the number of steps, {self.steps}, got {self.exchange}")
        self.integrator()

    @property
    def temperatures(self) -> Schedule:
        """K, at each step."""
        from atomsml.simulate.schedules import Schedule

        return Schedule((0, self.replicas)) if self.replicas else ramp("temperature", self.temperature, self.steps)

    @property
    def pressures(self) -> Schedule:
        """GPa, at each step."""
        return ramp("pressure", self.pressure, self.steps)

    @property
    def is_constant(self) -> bool:
        """Whether neither temperature nor pressure change on the way."""
        return len(self.temperatures.points) == len(self.pressures.points) == 1

    @property
    def conserves(self) -> bool:
        """Whether the energy that each structure reports is conserved; those of a ladder swap theirs."""
        return self.is_constant and not self.replicas

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
        from atomsml.simulate.dynamics.replica_exchange import ReplicaExchange

        kind = INTEGRATORS[self.method].kind
        made = kind(**{name: given[name] for name in inspect.signature(kind).parameters if name in given})
        return ReplicaExchange(made, self.exchange, self.seed) if self.replicas else made

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


def ladder(words: str) -> tuple[float, ...]:
    """Temperatures in K: of "300,350,410" these; of "300:600:8" eight, each by the same factor above the one before.

    Raises:
        ValueError: other words, fewer than two, or temperatures that do not ascend.
    """
    try:
        if ":" in words:
            first, last, count = (kind(word) for kind, word in zip((float, float, int), words.split(":"), strict=True))
            found = [first, last]
            if min(found) > 0:
                found = [round(first * (last / first) ** (i / max(1, count - 1)), 2) for i in range(count)]
        else:
            found = [float(word) for word in words.split(",")]
    except (ValueError, ArithmeticError) as error:
        raise ValueError(
            f"--replicas must be temperatures as 300,350,410, or as 300:600:8 the first, the last and how many, got "
            f"{words!r}"
        ) from error
    if len(found) < 2:
        raise ValueError(f"--replicas needs two temperatures at least, got {words}")
    if not 0 < found[0] < found[-1] < math.inf or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"--replicas must be temperatures above 0 K that ascend, got {words}")
    return tuple(found)


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
