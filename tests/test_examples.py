"""Every example runs from the command line, in an empty folder, and what it writes makes sense."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str, folder: Path) -> dict[str, list[float]]:
    """Run an example in `folder`; the numbers of each printed line, by the words before them."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = {}
    for line in done.stdout.splitlines():
        label, _, rest = line.partition("  ")
        lines[label] = [float(word) for word in rest.split() if word.lstrip("-").replace(".", "").isdigit()]
    return lines


def test_relax_a_molecule(tmp_path):
    lines = run("01_relax_a_molecule.py", "CCO", "--fmax", "0.02", folder=tmp_path)
    assert lines["relaxation"][0] < 0
    assert lines["largest force"][0] <= 0.02
    relaxed = read(tmp_path / "relaxed.xyz")
    assert str(relaxed.symbols) == "C2OH6"
    assert relaxed.get_distance(0, 1) == pytest.approx(1.52, abs=0.03)  # a C-C single bond, A


def test_md_nvt(tmp_path):
    lines = run("02_md_nvt.py", "O", "--steps", "40", folder=tmp_path)
    frames = read(tmp_path / "md.traj", ":")
    assert len(frames) == 5  # the start, and every tenth step
    energies = [frame.get_potential_energy() for frame in frames]
    mean, spread = lines["potential energy"]
    assert abs(np.mean(energies) - mean) < 5 * spread + 1e-3
    assert 0 < lines["temperature"][0] < 2000
    assert (tmp_path / "md.png").read_bytes().startswith(b"\x89PNG")


def test_crystal_equation_of_state(tmp_path):
    lines = run("03_crystal_equation_of_state.py", "W", folder=tmp_path)
    (relaxed,), (fitted,) = lines["lattice constant, relaxed"], lines["lattice constant, fitted"]
    # the stress and the energies are of one function: what is left is the form of the fit
    assert relaxed == pytest.approx(fitted, rel=1e-3)
    assert fitted == pytest.approx(3.165, rel=0.02)  # measured, A
    assert lines["bulk modulus"][0] > 100


def test_generate_molecules(tmp_path):
    options = ("--count", "6", "--steps", "20", "--formula", "C4H8O")
    lines = run("04_generate_molecules.py", *options, folder=tmp_path)
    drawn = read(tmp_path / "generated.xyz", ":")
    assert [atoms.get_chemical_formula() for atoms in drawn] == ["C4H8O"] * 6
    assert 0 < lines["relaxed"][0] <= lines["good"][0] <= lines["drawn"][0] == 6
    assert len(read(tmp_path / "relaxed.xyz", ":")) == lines["relaxed"][0]
    assert lines["C4H8O"][0] > 0  # relaxing lowers the energy


def test_train_a_generator(tmp_path):
    lines = run("05_train_a_generator.py", "--steps", "25", "--count", "3", folder=tmp_path)
    assert np.isfinite(lines["step 25"][0])
    drawn = read(tmp_path / "drawn.xyz", ":")
    assert len(drawn) == lines["drawn"][0] == 3
    assert all(np.isfinite(atoms.positions).all() for atoms in drawn)
    assert {symbol for atoms in drawn for symbol in atoms.symbols} <= {"H", "C", "N", "O"}


@pytest.mark.slow
def test_metadynamics_in_openmm(tmp_path):
    lines = run("06_metadynamics_in_openmm.py", "--steps", "20000", folder=tmp_path)
    assert lines["distance at the minimum"][0] == pytest.approx(0.29, abs=0.02)  # of the dimer, nm
    assert lines["depth of the well"][0] > 3
    assert (tmp_path / "free_energy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_path_integrals_in_ipi(tmp_path):
    lines = run("07_path_integrals_in_ipi.py", "--beads", "16", "--steps", "400", folder=tmp_path)
    (classical,), (quantum,) = lines["classical kinetic energy"], lines["quantum kinetic energy"]
    assert classical == pytest.approx(lines["3/2 kT for each atom"][0], rel=0.5)
    assert quantum > 2 * classical
    assert lines["quantum O-H bond"][1] > 2 * lines["classical O-H bond"][1]  # their widths


def test_every_example_has_a_test():
    with_a_test = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem[3:] for path in EXAMPLES.glob("[0-9][0-9]_*.py")} == with_a_test - {"every_example_has_a_test"}
