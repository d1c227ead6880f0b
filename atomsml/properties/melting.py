"""Melting: at which temperature a crystal and its melt stand side by side, by two-phase coexistence.

Half of a supercell is molten while the other half is held. Copies of what this gives then run side by side at different
temperatures and one pressure, as one batch: below the melting point the crystal grows into the melt, above it the melt
eats the crystal (Morris et al., Phys. Rev. B 49, 3109 (1994); here at constant temperature, so that every run decides).
Local structure tells how much is solid. The next round of temperatures lies between the highest at which the crystal
grew and the lowest at which it shrank.

A crystal that is only heated melts far too late: there is nothing at which the melt could begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.properties.crystal_and_melt import LOOKS, Eye, half_molten, held_at, long_supercell, require_whole
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Standing, Start, minima
from atomsml.simulate.analysis.local_structure import KINDS
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.md import md

Array = NDArray[np.float64]
Verdict = Literal["grew", "shrank", "undecided"]

DECIDED = 0.1  # by how much the solid share must change, of that of the whole crystal


@dataclass(frozen=True)
class MeltingSettings:
    """Where to look for the melting point, and how long.

    Raises:
        ValueError: a number that makes no sense; says which.
    """

    temperature: float  # K, a guess
    spread: float = 0.3  # the first temperatures lie from (1 - spread) to (1 + spread) times the guess
    runs: int = 5  # temperatures of a round
    rounds: int = 2
    atoms: int = 400  # of a run, at least
    steps: int = 10_000  # of a run
    timestep: float = 2.0  # fs
    pressure: float = 0.0  # GPa
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"the guess of the melting point must be a temperature in K, got {self.temperature}")
        if not 0 < self.spread < 1:
            raise ValueError(f"the spread of the first temperatures is between 0 and 1, got {self.spread}")
        if self.runs < 2:
            raise ValueError(f"it takes at least 2 temperatures, got {self.runs}")
        if self.rounds < 1:
            raise ValueError(f"it takes at least 1 round, got {self.rounds}")
        if self.atoms < 100:
            raise ValueError(f"crystal and melt need at least 100 atoms, got {self.atoms}")
        if self.steps < 10 * LOOKS:
            raise ValueError(f"a run needs at least {10 * LOOKS} steps, got {self.steps}")
        if not 0 < self.timestep < np.inf:
            raise ValueError(f"the timestep must be a positive number of fs, got {self.timestep}")


@dataclass(frozen=True, eq=False)
class Run:
    """Crystal and melt at one temperature."""

    temperature: float  # K
    times: Array  # fs
    solid: Array  # the share of atoms with the structure of the crystal, over that of the whole crystal when it is hot
    verdict: Verdict
    last: ase.Atoms


@dataclass(frozen=True, eq=False)
class Melting:
    """Between which temperatures a crystal melts."""

    kind: str  # of the structure, one of KINDS
    lower: float  # K, the highest temperature at which the crystal grew
    upper: float  # K, the lowest at which it shrank
    runs: list[Run]  # by temperature

    @property
    def temperature(self) -> float:
        """K, the middle."""
        return (self.lower + self.upper) / 2


def check(atoms: ase.Atoms) -> None:
    """
    Raises:
        ValueError: no crystal that is periodic along all three axes.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"a melting point is of a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
        )


def melting_points(
    structures: Sequence[ase.Atoms], engine: Engine, settings: MeltingSettings, start: Start | None = None
) -> Iterator[tuple[int, Melting | Failure | Standing]]:
    """Where each crystal melts, one after the other; what it is at in between.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    for index, minimum in minima(structures, engine, start or Start(cell=True)):
        if isinstance(minimum, Failure):
            yield index, minimum
            continue
        try:
            for found in _melting_point(minimum, engine, settings):
                yield index, found
        except ValueError as error:
            yield index, Failure(str(error))


def _melting_point(minimum: ase.Atoms, engine: Engine, settings: MeltingSettings) -> Iterator[Melting | Standing]:
    crystal = long_supercell(minimum, settings.atoms)
    eye = Eye.of(crystal)
    yield Standing(f"{len(crystal)} atoms of {KINDS[eye.kind]} at {settings.temperature:.0f} K")
    hot = held_at(crystal, engine, settings)
    whole = eye.share(hot)
    if whole < 0.3:
        raise ValueError(
            f"the crystal did not last at {settings.temperature:.0f} K: {whole:.0%} of it stands as {KINDS[eye.kind]}; "
            "guess a lower temperature"
        )
    crystal.set_cell(hot.cell, scale_atoms=True)
    yield Standing("half of it is molten")
    both = half_molten(crystal, engine, settings, eye)
    runs: list[Run] = []
    low, high = (1 - settings.spread) * settings.temperature, (1 + settings.spread) * settings.temperature
    for number in range(settings.rounds):
        temperatures = _between(low, high, settings.runs, ends=number == 0)
        for step, told in _coexistence(both, temperatures, engine, settings, eye, whole):
            if isinstance(told, Run):
                runs.append(told)
            else:
                yield Standing(f"{told}: step {step} of {settings.steps}, round {number + 1} of {settings.rounds}")
        runs.sort(key=lambda run: run.temperature)
        low, high = bracket(runs)
    yield Melting(KINDS[eye.kind], low, high, runs)


def _between(low: float, high: float, count: int, ends: bool) -> list[float]:
    """Temperatures at equal distances, with both ends or without."""
    grid = np.linspace(low, high, count) if ends else np.linspace(low, high, count + 2)[1:-1]
    return [float(x) for x in grid]


def bracket(runs: Sequence[Run]) -> tuple[float, float]:
    """The highest temperature below which the crystal never shrank, and the lowest above which it never grew.

    Near the melting point chance decides what a small crystal does: where it grew at a higher temperature than that at
    which it shrank, both lie between the two.

    Raises:
        ValueError: there is no such temperature.
    """
    grew = [run.temperature for run in runs if run.verdict == "grew"]
    shrank = [run.temperature for run in runs if run.verdict == "shrank"]
    lowest, highest = min(shrank, default=np.inf), max(grew, default=-np.inf)
    lower, upper = [t for t in grew if t < lowest], [t for t in shrank if t > highest]
    if not upper:
        raise ValueError(
            f"it does not melt up to {runs[-1].temperature:.0f} K; guess a higher temperature or run longer"
        )
    if not lower:
        raise ValueError(f"it melts at {runs[0].temperature:.0f} K already; guess a lower temperature")
    return max(lower), min(upper)


def _coexistence(
    both: ase.Atoms,
    temperatures: Sequence[float],
    engine: Engine,
    settings: MeltingSettings,
    eye: Eye,
    whole: float,
) -> Iterator[tuple[int, Run | str]]:
    """All temperatures side by side: how it stands at each look, and the runs at the end."""
    copies = [both.copy() for _ in temperatures]
    barostat = MTK(settings.timestep, temperatures, settings.pressure, cell="anisotropic")
    every = settings.steps // LOOKS
    shares, times, last = [], [], copies
    for frame in md(copies, engine.model, barostat, every * LOOKS, every, temperatures, settings.seed):
        require_whole(frame.lost)
        last = frame.state.write_to(copies)
        shares.append([eye.share(atoms) / whole for atoms in last])
        times.append(frame.step * settings.timestep)
        words = ", ".join(f"{t:.0f} K {s:.0%}" for t, s in zip(temperatures, shares[-1], strict=True))
        yield frame.step, f"solid at {words}"
    for temperature, solid, atoms in zip(temperatures, np.array(shares).T, last, strict=True):
        yield settings.steps, Run(temperature, np.array(times), solid, verdict(solid), atoms)


def verdict(solid: Array) -> Verdict:
    """What the solid share did from the second fifth of a run, in which the phases settle, to the last."""
    fifths = np.array_split(solid, 5)
    change = fifths[4].mean() - fifths[1].mean()
    if fifths[4].mean() > 1 - DECIDED or change > DECIDED:
        return "grew"
    if fifths[4].mean() < DECIDED or change < -DECIDED:
        return "shrank"
    return "undecided"
