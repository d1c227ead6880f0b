"""Sound files of every kind that the commands read, small, and the command lines that read each kind."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.db
import ase.io
import h5py
import numpy as np
import torch
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from atomsml.dataset import read_dataset
from atomsml.dataset.formats.storage import describe_source, write_dataset
from atomsml.modelfile import save
from atomsml.potentials import POTENTIALS

DATA = Path(__file__).parents[1] / "data"
YAML_MD = "ensemble: nvt\ntemperature: 300\ntimestep: 0.5\nsteps: 2\ninterval: 1\nseed: 3\nprecision: float64\n"
NETWORK = "{channels: 4, lmax: 1, hidden_lmax: 0, correlation: 1, radial_mlp: [4], readout_channels: 4}"
YAML_TRAIN = f"""\
model: mace
model_options: {NETWORK}
data:
  train:
    - file: data.extxyz
      keys: {{energy: REF_energy, forces: REF_forces}}
  valid: 0.2
max_steps: 1
seed: 3
loss: {{energy: 1.0, forces: 10.0}}
"""
TRAIN = "train --train INPUT --valid 0.2 --max-steps 1 -m mace -o run --set model_options=" + NETWORK.replace(" ", "_")


@dataclass(frozen=True)
class Kind:
    """A file format: a sound file, and command lines in which INPUT is the file and MODEL a model that knows it."""

    suffix: str
    content: bytes
    commands: tuple[str, ...]


def make_model(path: Path) -> None:
    """A MACE with random weights for what the structures hold."""
    torch.manual_seed(0)
    mace = POTENTIALS["mace"]
    config = mace.Config(
        elements=(1, 6, 7, 8, 29, 41, 42, 73, 74), cutoff=3.5, channels=4, hidden_lmax=1, lmax=1, correlation=2,
        radial_mlp=(4,), readout_channels=4, scale=0.1,
    )  # fmt: skip
    save(
        mace(config).cast(torch.float64), path, {"kind": "molecules", "licence": "MIT", "metrics": {"forces_mae": 0.05}}
    )


def make_kinds(folder: Path) -> dict[str, Kind]:
    """All kinds; writes model.safetensors and data.extxyz, which commands need beside the input, into `folder`."""
    make_model(folder / "model.safetensors")
    frames = _labelled()
    ase.io.write(folder / "data.extxyz", frames, format="extxyz")
    dataset = read_dataset(folder / "data.extxyz")
    write_dataset(folder / "own.h5", (c for _, c in dataset.blocks()), [describe_source(f) for f in dataset.found])
    structures = ("energy INPUT -m MODEL --json",)
    labelled = ("data info INPUT --json", "evaluate MODEL INPUT --json")
    data = {
        "model": (
            ".safetensors",
            (folder / "model.safetensors").read_bytes(),
            ("info INPUT", "energy O -m INPUT --json"),
        ),
        "hdf5": (".h5", (folder / "own.h5").read_bytes(), labelled),
        "plain hdf5": (".h5", _plain_hdf5(frames), labelled),
        "molecules hdf5": (".h5", _molecules_hdf5(), ("evaluate molecules INPUT --json",)),
        "extxyz": (".extxyz", _crystals(folder), structures),
        "labelled extxyz": (".extxyz", (folder / "data.extxyz").read_bytes(), (*labelled, TRAIN)),
        "sdf": (".sdf", _sdf(), (*structures, "evaluate molecules INPUT --json")),
        "cif": (".cif", _ase_file(folder / "seed.cif", bulk("Cu", cubic=True)), structures),
        "poscar": (".vasp", _ase_file(folder / "seed.vasp", bulk("W", cubic=True)), structures),
        "pdb": (".pdb", _ase_file(folder / "seed.pdb", molecule("CH3OH")), structures),
        "traj": (".traj", _ase_file(folder / "seed.traj", frames[:2]), structures),
        "ase db": (".db", _database(folder / "seed.db", frames[:3]), ("data info INPUT --json", *structures)),
        "ase json": (".json", _ase_file(folder / "seed.json", frames[0]), structures),
        "md yaml": (".yaml", YAML_MD.encode(), ("md O -m MODEL --config INPUT --steps 2",)),
        "train yaml": (".yaml", YAML_TRAIN.encode(), ("train INPUT --max-steps 1 -o run",)),
        "mace pickle": (".model", _mace_checkpoint(), ("convert INPUT --head bulk -o out.safetensors",)),
        "sevennet pickle": (
            ".pth",
            (DATA / "sevennet" / "graded.pth").read_bytes(),
            ("convert INPUT -o out.safetensors",),
        ),
    }
    return {name: Kind(*each) for name, each in data.items()}


def _labelled() -> list[ase.Atoms]:
    rng, frames = np.random.default_rng(0), []
    for i in range(12):
        atoms = molecule(("H2O", "CH4", "CH3OH")[i % 3])
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = MorsePotential(epsilon=2.0, r0=1.0, rho0=3.0)
        atoms.info |= {"REF_energy": atoms.get_potential_energy(), "config_type": "ab"[i % 2]}
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    return frames


def _crystals(folder: Path) -> bytes:
    frames = [bulk("Cu", cubic=True), bulk("W"), molecule("CH3OH")]
    frames[0].calc = SinglePointCalculator(frames[0], energy=-1.0, forces=np.zeros((4, 3)))
    return _ase_file(folder / "seed.extxyz", frames)


def _ase_file(path: Path, atoms: ase.Atoms | list[ase.Atoms]) -> bytes:
    ase.io.write(path, atoms)
    return path.read_bytes()


def _database(path: Path, frames: list[ase.Atoms]) -> bytes:
    with ase.db.connect(path) as database:
        for atoms in frames:
            results = SinglePointCalculator(atoms, energy=atoms.info["REF_energy"], forces=atoms.arrays["REF_forces"])
            database.write(ase.Atoms(atoms.numbers, atoms.positions, calculator=results))
    return path.read_bytes()


def _plain_hdf5(frames: list[ase.Atoms]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["offsets"] = np.cumsum([0, *map(len, frames)])
        file["numbers"] = np.concatenate([a.numbers for a in frames]).astype(np.uint8)
        file["positions"] = np.concatenate([a.positions for a in frames])
        file["energy"] = [a.info["REF_energy"] for a in frames]
        file["forces"] = np.concatenate([a.arrays["REF_forces"] for a in frames])
    return buffer.getvalue()


def _embedded() -> list[Chem.Mol]:
    mols = [Chem.AddHs(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "CC#N", "C=O")]
    for mol in mols:
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    return mols


def _molecules_hdf5() -> bytes:
    mols, buffer = _embedded(), io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["offsets"] = np.cumsum([0, *(mol.GetNumAtoms() for mol in mols)])
        file["numbers"] = np.array([a.GetAtomicNum() for mol in mols for a in mol.GetAtoms()], "u1")
        file["positions"] = np.concatenate([mol.GetConformer().GetPositions() for mol in mols])
        file["smiles"] = ["CCO", "CC#N", "C=O"]
    return buffer.getvalue()


def _sdf() -> bytes:
    return "".join(f"{Chem.MolToMolBlock(mol)}>  <gap>\n{i}.5\n\n$$$$\n" for i, mol in enumerate(_embedded())).encode()


def _mace_checkpoint() -> bytes:
    """Random weights, written by mace-torch."""
    with tarfile.open(DATA / "mace" / "models.tar.xz") as archive:
        member = archive.extractfile("multihead.model")
        assert member is not None
        return member.read()
