"""What is exported is read back by ASE, and DCD by a reader that follows the description of the format."""

import struct
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.cell import Cell

from atomsml.io.trajectory import Trajectory
from atomsml.io.trajectory.export import exporter
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.trajectory import TrajectoryWriter, record
from atomsml.testing.model_potentials import LennardJones

ARGON = LennardJones(onset=4.0, cutoff=5.0)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    """A triclinic crystal, the same with a left-handed cell, and an open cluster."""
    crystal = bulk("Ar", "fcc", 5.3) * (3, 3, 2)
    crystal.rotate(40, (1, 2, 3), rotate_cell=True)
    crystal.rattle(0.05, seed=1)
    left = crystal.copy()
    left.set_cell(crystal.cell.array[[1, 0, 2]])
    cluster = molecule("CH3CH2OH")
    cluster.positions *= 3
    path = tmp_path_factory.mktemp("export") / "run.h5"
    structures, model = [crystal, left, cluster], Model(ARGON, ARGON.cutoff)
    with TrajectoryWriter.create(path, structures, timestep=0.5, interval=2) as writer:
        for _ in record(md(structures, model, NVE(0.5), 8, 2, temperature=30.0), writer, model):
            pass
    return Trajectory(path)


@pytest.mark.parametrize("name", ["out.extxyz", "out.xyz", "out.traj"])
def test_ase_reads_all_that_frames_have(trajectory: Trajectory, tmp_path: Path, name: str) -> None:
    for system in trajectory.systems:
        exporter(tmp_path / name)(system, tmp_path / name)
        images = ase.io.read(tmp_path / name, ":")
        assert len(images) == len(system) == 5
        for ours, theirs in zip(system, images, strict=True):
            np.testing.assert_array_equal(ours.numbers, theirs.numbers)
            for ask in (ase.Atoms.get_positions, ase.Atoms.get_momenta, ase.Atoms.get_forces, ase.Atoms.get_cell):
                np.testing.assert_allclose(ask(ours), ask(theirs), rtol=0, atol=1e-8)
            assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-8)


@pytest.mark.parametrize("name", ["XDATCAR", "XDATCAR_1", "out.xdatcar"])
def test_ase_reads_xdatcar(trajectory: Trajectory, tmp_path: Path, name: str) -> None:
    system = trajectory.systems[0]
    exporter(tmp_path / name)(system, tmp_path / name)
    for ours, theirs in zip(system, ase.io.read(tmp_path / name, ":", format="vasp-xdatcar"), strict=True):
        np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.cell.array, theirs.cell.array, rtol=0, atol=1e-5)


def read_dcd(path: Path) -> tuple[list[int], float, list[tuple[np.ndarray, np.ndarray]]]:
    """20 numbers of the header, time step, and cell parameters a, b, c, alpha, beta, gamma with positions."""
    data, place, records = path.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<i", data, place)
        records.append(data[place + 4 : place + 4 + length])
        assert struct.unpack_from("<i", data, place + 4 + length) == (length,)
        place += 8 + length
    header, title, atoms, *rest = records
    assert header[:4] == b"CORD"
    assert len(title) == 4 + 80 * struct.unpack("<i", title[:4])[0]
    frames = []
    for cell, *axes in zip(*[iter(rest)] * 4, strict=True):
        a, gamma, b, beta, alpha, c = np.frombuffer(cell, "<f8")
        positions = np.stack([np.frombuffer(axis, "<f4") for axis in axes], axis=1)
        assert len(positions) == struct.unpack("<i", atoms)[0]
        frames.append((np.array([a, b, c, alpha, beta, gamma]), positions))
    return list(struct.unpack("<20i", header[4:])), struct.unpack_from("<f", header, 40)[0], frames


def test_dcd(trajectory: Trajectory, tmp_path: Path) -> None:
    """Distances of all atoms by the nearest images are those of the run, in the cell that the parameters mean."""
    path = tmp_path / "out.dcd"
    for system in trajectory.systems:
        exporter(path)(system, path)
        header, timestep, frames = read_dcd(path)
        assert header[:3] == [5, 0, 2]
        assert header[10] == 1
        assert timestep * 48.88821 == pytest.approx(0.5, rel=1e-6)
        assert len(frames) == 5
        for ours, (parameters, positions) in zip(system, frames, strict=True):
            periodic = bool(system.pbc.all())
            cell = Cell.fromcellpar(parameters) if periodic else None
            theirs = ase.Atoms(numbers=ours.numbers, positions=positions, cell=cell, pbc=periodic)
            distances = ours.get_all_distances(mic=periodic)
            np.testing.assert_allclose(theirs.get_all_distances(mic=periodic), distances, atol=1e-5)
            if not periodic:
                np.testing.assert_array_equal(parameters, [0, 0, 0, 90, 90, 90])


def test_what_a_format_cannot_hold_is_refused(trajectory: Trajectory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an XDATCAR holds crystals, and C2OH6 is not periodic along all axes"):
        exporter(Path("XDATCAR"))(trajectory.systems[2], tmp_path / "XDATCAR")
    with pytest.raises(ValueError, match=r"cannot write a trajectory to out\.pdb; use the suffix \.extxyz, "):
        exporter(Path("out.pdb"))
