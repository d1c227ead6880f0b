"""Crystal and melt in one box: what is solid, and how half of a crystal is molten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ase
import numpy as np
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from atomsml.properties.conventional import conventional_cell
from atomsml.properties.engine import Engine
from atomsml.simulate.analysis.local_structure import KINDS, OTHER, local_structure
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.md import md

if TYPE_CHECKING:
    from atomsml.properties.melting import MeltingSettings

LOOKS = 50  # at how many times of a run it is looked at what is solid
MOLTEN = 0.1  # a smaller share of the upper half is solid
HOT, HOTTER = 2.0, 1.5  # times the guess: where half is molten; and times that where it was not enough
FORGOTTEN = 200.0  # fs, after which a thermostat has changed a momentum
SETTLED = 4000.0  # fs, at least: a cell swings for a picosecond
LOOSE = 1.05  # times its length: a cell whose half is molten


@dataclass(frozen=True)
class Eye:
    """Counts what is solid: by all atoms, or where only one element has a structure that is known, by that."""

    kind: int  # a place in KINDS
    element: int | None = None

    @staticmethod
    def of(crystal: ase.Atoms) -> Eye:
        """
        Raises:
            ValueError: the analysis knows neither the structure of all atoms nor that of one element.
        """
        for element in (None, *np.unique(crystal.numbers).tolist()):
            kinds = _kinds(crystal, element)
            most = int(np.bincount(kinds).argmax())
            if most != OTHER and (kinds == most).mean() > 0.9:
                return Eye(most, element)
        raise ValueError(
            f"it could not be seen whether it is solid: neither its atoms nor those of one element stand as in "
            f"{', '.join(KINDS[1:])}"
        )

    def share(self, atoms: ase.Atoms, among: NDArray[np.bool_] | None = None) -> float:
        """Of the atoms that it looks at, or of those among some, with the structure of the crystal."""
        kinds = _kinds(atoms, self.element)
        if among is not None:
            kinds = kinds[among if self.element is None else among[atoms.numbers == self.element]]
        return float((kinds == self.kind).mean())


def _kinds(atoms: ase.Atoms, element: int | None) -> NDArray[np.int64]:
    positions = atoms.positions if element is None else atoms.positions[atoms.numbers == element]
    return local_structure(positions, atoms.cell.array, atoms.pbc)


def long_supercell(atoms: ase.Atoms, count: int) -> ase.Atoms:
    """At least so many atoms, of the conventional cell, about twice as long along the third axis as across."""
    conventional = conventional_cell(atoms)
    across = (count * conventional.get_volume() / len(conventional) / 2) ** (1 / 3)
    lengths = conventional.cell.lengths()
    wanted = np.array([across, across, 2 * across])
    repeats = np.maximum(1, np.floor(wanted / lengths)).astype(int)
    while len(conventional) * repeats.prod() < count:
        repeats[np.argmin(repeats * lengths / wanted)] += 1
    return conventional * tuple(repeats.tolist())


def held_at(crystal: ase.Atoms, engine: Engine, settings: MeltingSettings) -> ase.Atoms:
    """The crystal after a fifth of a run at the guess and the pressure; the mean cell of the second half of that."""
    steps = max(settings.steps // 5, int(SETTLED / settings.timestep))
    every = steps // LOOKS
    barostat = MTK(settings.timestep, settings.temperature, settings.pressure, cell="anisotropic")
    cells, last = [], crystal
    for frame in md([crystal], engine.model, barostat, steps, every, settings.temperature, settings.seed):
        require_whole(frame.lost)
        cells.append(frame.state.cell[0].cpu().numpy())
        [last] = frame.state.write_to([crystal])
    last.set_cell(np.mean(cells[len(cells) // 2 :], axis=0), scale_atoms=True)
    return last


def half_molten(crystal: ase.Atoms, engine: Engine, settings: MeltingSettings, eye: Eye) -> ase.Atoms:
    """The upper half along the third axis is molten, then cooled to the guess, while the lower half is held.

    Raises:
        ValueError: it does not melt.
    """
    both = crystal.copy()
    both.set_cell(crystal.cell * np.array([1, 1, LOOSE])[:, None], scale_atoms=True)
    upper = both.get_scaled_positions()[:, 2] >= 0.5
    both.set_constraint(FixAtoms(np.flatnonzero(~upper)))
    steps, hot = max(1000, settings.steps // 10), HOT * settings.temperature
    for _ in range(4):
        both = _thermalised(both, engine, settings, hot, steps)
        if eye.share(both, upper) < MOLTEN:
            brief = int(np.ceil(5 * FORGOTTEN / settings.timestep))  # it would freeze if it had the time
            both = _thermalised(both, engine, settings, settings.temperature, brief)
            both.set_constraint()
            return both
        hot *= HOTTER
    raise ValueError(f"half of it did not melt at {hot / HOTTER:.0f} K; guess a higher temperature")


def _thermalised(
    atoms: ase.Atoms, engine: Engine, settings: MeltingSettings, temperature: float, steps: int
) -> ase.Atoms:
    thermostat = Langevin(settings.timestep, temperature, thermostat_time=FORGOTTEN, seed=settings.seed)
    for frame in md([atoms], engine.model, thermostat, steps, steps, temperature, settings.seed):
        require_whole(frame.lost)
    [moved] = frame.state.write_to([atoms])
    moved.calc = None
    return moved


def require_whole(lost: Sequence[object]) -> None:
    """
    Raises:
        ValueError: the system fell apart.
    """
    if lost:
        raise ValueError("the run fell apart; take a shorter timestep, or a model that was made for hot structures")
