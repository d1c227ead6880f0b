"""What i-PI loads by its path, as <pes_path> of an <ffdirect> or -P of i-pi-py_driver.

i-PI enters the file into Python's modules under its bare name: were it called ipi.py, it would stand for i-PI itself.
"""

from atomsml.interfaces.ipi import AtomsMLDriver as AtomsMLDriver

__DRIVER_NAME__ = "atomsml"
__DRIVER_CLASS__ = "AtomsMLDriver"
