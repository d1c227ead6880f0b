"""--fix: atoms that stay where they are; --rigid: bonds that keep their lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import ase

    from atomsml.cli.job import Job
    from atomsml.simulate.selection import Selection

FixOption = Annotated[
    str | None,
    typer.Option(
        "--fix",
        metavar="ATOMS",
        help="Atoms that stay where they are: numbers counted from 0 as 0-3,7, an element as Si, a region in A as "
        "'z<4.0', or several of these with commas between.",
    ),
]


def hold(job: Job, selection: Selection | None, strict: bool, check: Callable[[ase.Atoms], None]) -> None:
    """Hold the atoms in all structures; refused are those of which it means none, or all, and what `check` refuses.

    Raises:
        ValueError: no structure is left, or one was refused and the command is `strict`.
    """
    from atomsml.cli.job import stop_if

    for structure in job.structures if selection is not None else ():
        assert selection is not None
        try:
            selection.hold(structure.atoms)
            check(structure.atoms)
        except ValueError as error:
            stop_if(strict, job.refuse(structure, f"--fix: {error}"))
    job.require_some()


def make_rigid(job: Job, strict: bool, check: Callable[[ase.Atoms], None]) -> None:
    """Keep the lengths of all bonds of hydrogens; refused are structures in which this cannot be.

    Raises:
        ValueError: no hydrogen is bonded, no structure is left, or one was refused and the command is `strict`.
    """
    from ase.constraints import FixBondLengths

    from atomsml.cli.job import stop_if
    from atomsml.simulate.rigid import hydrogen_bonds

    pairs = [hydrogen_bonds(structure.atoms) for structure in job.structures]
    if not any(pairs):
        raise ValueError("--rigid hydrogens: no hydrogen is bonded to another atom; leave it out")
    for structure, bonds in zip(job.structures, pairs, strict=True):
        if not bonds:
            continue
        try:
            structure.atoms.set_constraint([*structure.atoms.constraints, FixBondLengths(bonds)])
            check(structure.atoms)
        except ValueError as error:
            stop_if(strict, job.refuse(structure, f"--rigid: {error}"))
    job.require_some()
