"""Adsorption energies: what a molecule or an atom gains on a slab, from many places and orientations at once.

    E_ads = E(slab with it) - E(slab) - E(it alone)

all relaxed, all by the same model; negative where it binds. Alone it is in no cell at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import ase
import numpy as np

from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.bases import Base, bases, check_slab
from atomsml.properties.surfaces.outcome import Outcome, outcome_of
from atomsml.properties.surfaces.sites import AdsorptionSite, find_sites, orientations
from atomsml.properties.surfaces.slabs import SlabSettings
from atomsml.properties.surfaces.surface import check as check_crystal
from atomsml.properties.task import Failure, Start, found_minimum, relaxed_groups
from atomsml.simulate.bonding import bonding_changed
from atomsml.simulate.relax import Relaxation, RelaxSettings


@dataclass(frozen=True)
class AdsorbSettings:
    """Where something is put, and on what.

    Raises:
        ValueError: lengths that are not positive.
    """

    cut: bool = False  # crystals are given, from which slabs are cut; otherwise slabs
    slabs: SlabSettings = field(default_factory=lambda: SlabSettings(hold="bottom"))
    length: float = 8.0  # A, from one to its repetition, at least; narrower slabs are repeated
    height: float = 2.0  # A, of its lowest atom above the atoms around the site
    turned: bool = True  # either end of each of its axes down; otherwise only as it is given

    def __post_init__(self) -> None:
        if not 0 <= self.length < 100:
            raise ValueError(f"the length from one to its repetition is between 0 and 100 A, got {self.length}")
        if not 0 < self.height < 10:
            raise ValueError(f"the height above the surface is between 0 and 10 A, got {self.height}")


@dataclass(frozen=True, eq=False)
class Adsorbed:
    """What became of one way to put it there."""

    surface: str  # name of the slab
    site: AdsorptionSite  # where it was put
    orientation: int  # from 1
    atoms: ase.Atoms  # relaxed; that which adsorbs comes last
    energy: float  # eV, of adsorption; NaN where there is no minimum
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Adsorption:
    """All ways on the slabs of one structure."""

    bases: list[Base]  # clean
    gas: ase.Atoms  # alone, with its energy
    found: list[Adsorbed]  # the lowest energy first


def check(atoms: ase.Atoms, settings: AdsorbSettings) -> None:
    """Refuse what is neither a slab nor, where slabs are cut, a crystal.

    Raises:
        ValueError: says why.
    """
    if settings.cut:
        check_crystal(atoms)
    else:
        check_slab(atoms)


def gas_phase(adsorbate: ase.Atoms, engine: Engine, start: Start) -> ase.Atoms:
    """What adsorbs, alone and relaxed, with its energy.

    Raises:
        ValueError: it is periodic or charged, finds no minimum, or is another molecule at its minimum.
    """
    if adsorbate.pbc.any():
        raise ValueError("what adsorbs is a molecule or an atom, and not periodic")
    if adsorbate.info.get("charge", 0) != 0:
        raise ValueError(f"what adsorbs is neutral, {adsorbate.symbols} has the charge {adsorbate.info['charge']:+g}")
    alone = ase.Atoms(adsorbate.numbers, adsorbate.positions)
    [relaxation] = engine.relax([alone], RelaxSettings(start.fmax, start.steps))
    atoms = found_minimum(relaxation, start.fmax)
    if isinstance(atoms, Failure):
        raise ValueError(f"what adsorbs, {adsorbate.symbols}, {atoms.reason}")
    if bonding_changed(alone, atoms):
        raise ValueError(f"what adsorbs, {adsorbate.symbols}, does not hold together alone in this model")
    return atoms


def adsorption_energies(
    structures: Sequence[ase.Atoms],
    adsorbate: ase.Atoms,
    engine: Engine,
    settings: AdsorbSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, Adsorption | Failure]]:
    """Adsorption on slabs, by their places in the list; all ways on all slabs are relaxed together.

        >>> from ase.build import bcc110
        >>> from ase import Atoms
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.surfaces.adsorb import AdsorbSettings, adsorption_energies
        >>> engine, slab = Engine.of(AtomsMLCalculator("refractory-pbe")), bcc110("W", (1, 1, 4), vacuum=8)
        >>> [(_, found)] = adsorption_energies([slab], Atoms("Mo"), engine, AdsorbSettings(length=5))
        >>> found.found[0].outcome.bonded
        True

    Raises:
        ValueError: a structure that `check` refuses; an adsorbate that `gas_phase` refuses.
    """
    settings, start = settings or AdsorbSettings(), start or Start(cell=True)
    for atoms in structures:
        check(atoms, settings)
    gas = gas_phase(adsorbate, engine, start)
    clean, ways = dict[int, list[Base]](), dict[int, list[_Way]]()
    for index, found in bases(structures, engine, settings.slabs, settings.cut, settings.length, start):
        if isinstance(found, Failure):
            yield index, found
            continue
        clean[index] = found
        ways[index] = [way for base in found for way in _ways(base, gas, settings)]
    groups = {index: [way.atoms for way in some] for index, some in ways.items()}
    for index, relaxed in relaxed_groups(groups, engine, RelaxSettings(start.fmax, start.steps)):
        some = [_adsorbed(way, each, gas, start.fmax) for way, each in zip(ways[index], relaxed, strict=True)]
        if not any(each.outcome.converged for each in some):
            yield index, Failure(f"on it {gas.symbols} {some[0].outcome.reason}")
            continue
        some.sort(key=lambda each: (not each.outcome.converged, each.energy))
        yield index, Adsorption(clean[index], gas, some)


@dataclass(frozen=True, eq=False)
class _Way:
    """A start."""

    base: Base
    atoms: ase.Atoms
    site: AdsorptionSite
    orientation: int
    every: list[AdsorptionSite]  # sites of the base


def _ways(base: Base, gas: ase.Atoms, settings: AdsorbSettings) -> list[_Way]:
    distinct, every = find_sites(base.slab.atoms)
    ways = []
    for site in distinct:
        for number, molecule in enumerate(orientations(gas, settings.turned), 1):
            atoms = base.atoms.copy()
            molecule.positions += site.position + np.array([0, 0, settings.height])
            atoms += molecule
            ways.append(_Way(base, atoms, site, number, every))
    return ways


def _adsorbed(way: _Way, each: Relaxation, gas: ase.Atoms, fmax: float) -> Adsorbed:
    found = found_minimum(each, fmax)
    reason = found.reason if isinstance(found, Failure) else ""
    outcome = outcome_of(way.atoms, each.atoms, len(gas), way.every, way.base.slab.atoms.cell.array, reason)
    energy = each.state.energy - way.base.atoms.get_potential_energy() - gas.get_potential_energy()
    name = way.base.slab.name
    return Adsorbed(name, way.site, way.orientation, each.atoms, np.nan if reason else float(energy), outcome)
