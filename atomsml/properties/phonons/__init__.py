"""Phonons of crystals: supercell, force constants by displacements, and what phonopy makes of them.

supercell.py  ->  repeated.py, displacements.py  ->  force_constants.py  ->  modes.py  <-  harmonic.py, which is asked
"""

from importlib.util import find_spec

if find_spec("phonopy") is None or find_spec("seekpath") is None:
    raise ValueError('phonons need phonopy and seekpath; run `pip install "atomsml[phonons]"`')
