"""Trajectories in the formats of other programs.

| format | names | what it keeps |
|---|---|---|
| extended XYZ | .extxyz .xyz | all that a frame has |
| ASE | .traj | all that a frame has |
| DCD | .dcd | positions in float32 and the cell: for VMD, MDAnalysis, mdtraj; see dcd.py |
| XDATCAR | XDATCAR* .xdatcar | positions and the cell, for programs that read VASP's |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from atomsml.io.trajectory.dcd import write_dcd
from atomsml.io.trajectory.reader import SystemTrajectory


def write_extxyz(system: SystemTrajectory, path: Path) -> None:
    from ase.io.extxyz import write_extxyz

    with path.open("w", encoding="utf-8") as file:
        for atoms in system:
            write_extxyz(file, [atoms])


def write_traj(system: SystemTrajectory, path: Path) -> None:
    from ase.io.trajectory import TrajectoryWriter

    with TrajectoryWriter(path) as file:
        for atoms in system:
            file.write(atoms)


def write_xdatcar(system: SystemTrajectory, path: Path) -> None:
    """
    Raises:
        ValueError: a system that is not periodic in three dimensions.
    """
    from ase.io.vasp import write_vasp_xdatcar

    if not system.pbc.all():
        raise ValueError(f"an XDATCAR holds crystals, and {system.name} is not periodic along all axes; use .extxyz")
    write_vasp_xdatcar(path, iter(system))


EXPORTS: dict[str, Callable[[SystemTrajectory, Path], None]] = {
    ".extxyz": write_extxyz,
    ".xyz": write_extxyz,
    ".traj": write_traj,
    ".dcd": write_dcd,
    ".xdatcar": write_xdatcar,
}


def exporter(path: Path) -> Callable[[SystemTrajectory, Path], None]:
    """Who writes what the name of a file says.

    Raises:
        ValueError: no format that is known.
    """
    suffix = ".xdatcar" if path.name.upper().startswith("XDATCAR") else path.suffix.lower()
    if suffix not in EXPORTS:
        raise ValueError(f"cannot write a trajectory to {path}; use the suffix {', '.join(EXPORTS)}, or XDATCAR")
    return EXPORTS[suffix]
