"""Checks for your own models and calculators."""

from atomsml.testing.ase_contract import assert_ase_contract as assert_ase_contract
from atomsml.testing.devices import pretended_device as pretended_device
from atomsml.testing.potentials import PotentialTests as PotentialTests
from atomsml.testing.potentials import seeded as seeded
