"""A potential inside LAMMPS, over any number of MPI processes, by its `fix external`: nothing is exported or compiled.

LAMMPS deals atoms out to processes, tells each of the ghosts around its own atoms, moves all of them, and asks for
forces. `attach.py` tells it what to prepare, `callback.py` answers, from the region around the atoms of a process
(`halo.py`, atomsml/region.py) and with the forces on ghosts sent home (`homes.py`). `script.py` reads input files,
`driver.py` runs them, `launch.py` starts processes, `__main__.py` is what each of them runs, and `check.py` compares it
all with the calculator.
"""
