"""Relaxing generated molecules with GFN2-xTB by the package tblite, in several processes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import ase

from atomsml.generative.molecules.relaxation import RelaxedMolecule, relaxed_molecule
from atomsml.simulate.batching.processes import on_devices
from atomsml.simulate.relax import RelaxSettings, relax

METHOD = "GFN2-xTB"
NAME = "gfn2-xtb"  # in commands, where others are names of models
PART = 4  # molecules of a call of a process
ACCURACY = 0.1  # of tblite's: a tenth of its usual thresholds, so that forces are good to fmax


def check_installed() -> None:
    """Refuse the method where the package is missing.

    Raises:
        ValueError: says how to install it.
    """
    if find_spec("tblite") is None:
        raise ValueError(f"relaxing with {METHOD} needs a package that is not installed: pip install tblite")


def relax_gfn2(
    molecules: Sequence[ase.Atoms], settings: RelaxSettings | None = None, processes: int | None = None
) -> Iterator[RelaxedMolecule]:
    """Relax copies of neutral, closed-shell `molecules`, each yielded when it is done, in no particular order.

    One whose density does not converge has no strain and is not converged. Every molecule has one thread of one of
    the `processes`, by default as many as there are cores.

    Bannwarth, Ehlert, Grimme, "GFN2-xTB - an accurate and broadly parametrized self-consistent tight-binding quantum
    chemical method", J. Chem. Theory Comput. 15, 1652 (2019).

    Raises:
        ValueError: tblite is not installed, or a periodic system.
    """
    check_installed()
    number = processes or os.cpu_count() or 1
    needed = max(1, min(number, -(-len(molecules) // PART)))
    task = partial(_relax_part, settings=settings or RelaxSettings())
    for index, done in on_devices(task, molecules, ["cpu"] * needed, part=PART):
        yield dataclasses.replace(done, index=index)


def _relax_part(
    device: str, molecules: Sequence[ase.Atoms], settings: RelaxSettings
) -> Iterator[tuple[int, RelaxedMolecule]]:
    """In a process of its own, whose libraries read how many threads they have when they are loaded."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for number, atoms in enumerate(molecules):
        yield number, _relax(atoms, settings)


def _relax(molecule: ase.Atoms, settings: RelaxSettings) -> RelaxedMolecule:
    from ase.calculators.calculator import CalculatorError

    atoms = molecule.copy()
    atoms.calc = import_module("tblite.ase").TBLite(method=METHOD, accuracy=ACCURACY, verbosity=0)
    try:
        start = float(atoms.get_potential_energy())
        state = relax(atoms, settings)
    except CalculatorError:  # no self-consistent density, as at bad geometries
        return RelaxedMolecule(0, molecule.copy(), False, float("nan"), False)
    atoms.calc = None  # which does not travel between processes
    return relaxed_molecule(0, molecule, atoms, start, state)
