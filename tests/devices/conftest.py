"""Where the tests of this folder run: on each kind of device, the real one if this machine has it, else pretended.

Small models and structures; what a device finds is compared with what the CPU finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential

from atomsml.device import has_float64
from atomsml.graph import AtomicGraph
from atomsml.io import mol_from_smiles
from atomsml.io.sdf import write_mols
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.testing import pretended_device

# pretended, the one without float64 finds what the other finds, and more; each costs minutes
CUDA = pytest.param("cuda", marks=() if torch.cuda.is_available() else pytest.mark.slow)


@pytest.fixture(params=[CUDA, "mps"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with pretended_device(request.param) as found:
        yield found


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    """For what MPS does not offer."""
    with pretended_device("cuda") as found:
        yield found


@pytest.fixture
def dtype(device: torch.device) -> torch.dtype:
    """The widest that the device has."""
    return torch.float64 if has_float64(device) else torch.float32


@pytest.fixture
def precision(device: torch.device) -> str:
    """Of a calculator; "mixed" where the device holds it."""
    return "mixed" if has_float64(device) else "float32"


@pytest.fixture
def images() -> list[ase.Atoms]:
    """A molecule, a crystal smaller than the cutoff with atoms outside of its cell, a slab without a third vector."""
    slab = bulk("C", "diamond", a=3.6)
    slab.cell[2], slab.pbc = 0, (True, True, False)
    found = [molecule("CH3CH2OH"), bulk("C", "diamond", a=3.6), slab]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    found[1].positions += 10
    return found


@pytest.fixture
def graph(images: list[ase.Atoms]) -> AtomicGraph:
    """All of them, float64, on the CPU, without neighbours."""
    return AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in images])


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """24 shaken molecules of water in a file, with the energies and forces of ASE's Morse potential."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(24):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.1, size=(3, 3))
        atoms.calc = MorsePotential(epsilon=2.0, r0=1.0, rho0=3.0)
        energy, atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc, atoms.info["REF_energy"] = None, energy
        frames.append(atoms)
    ase.io.write(tmp_path / "water.extxyz", frames)
    return tmp_path / "water.extxyz"


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    """10 molecules in a file, with bonds."""
    path = tmp_path / "molecules.sdf"
    write_mols(path, (mol_from_smiles(smiles) for smiles in ("O", "C", "CO", "CCO", "COC") * 2))
    return path


@pytest.fixture
def make_mace() -> Callable[[int], MACE]:
    """A small MACE of H, C and O with random weights by a seed, float64, on the CPU."""

    def make(seed: int) -> MACE:
        config = MACEConfig(
            elements=(1, 6, 8),
            cutoff=4.0,
            channels=4,
            hidden_lmax=1,
            lmax=2,
            correlation=2,
            num_bessel=4,
            radial_mlp=(8,),
            readout_channels=4,
            avg_num_neighbors=8.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MACE(config).cast(torch.float64)

    return make
