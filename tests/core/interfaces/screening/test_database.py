"""Results in a database of ASE: against ASE with the same calculator, and how a screening goes on."""

import math
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ase
import ase.db
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from atomsml import AtomsMLCalculator, __version__
from atomsml.interfaces.screening.database import screen_into
from atomsml.interfaces.screening.screen import screen
from atomsml.interfaces.screening.works import Calculation, Energies, Found, Relaxations
from atomsml.modelfile import model_hash
from atomsml.properties.task import Failure
from atomsml.simulate.relax import RelaxSettings, relax

ENERGIES = Energies(model="organic-xtb", device="cpu", precision="float64")


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def molecules() -> list[ase.Atoms]:
    """The fourth has an element that the model does not know, the fifth two atoms in one place."""
    found = [molecule(name) for name in ("H2O", "CH4", "NH3", "SiH4", "CO2", "C2H2")]
    for i, atoms in enumerate(found):
        atoms.rattle(0.05, seed=i)
    found[4].positions[1] = found[4].positions[0]
    return found


@pytest.mark.parametrize(
    "work",
    [ENERGIES, Relaxations(model="organic-xtb", device="cpu", precision="float64", settings=RelaxSettings(fmax=0.01))],
    ids=["energies", "relaxations"],
)
def test_rows_are_what_ase_computes(work: Calculation, executor: Executor, tmp_path: Path) -> None:
    given = molecules()
    found = dict(screen_into(tmp_path / "found.db", given, work, executor, chunk=4, retries=1))
    database = ase.db.connect(tmp_path / "found.db")
    rows = {row.number: row for row in database.select()}
    assert len(list(database.select())) == len(rows) == len(found) == 6
    for number in (0, 1, 2, 5):
        atoms, row = given[number], rows[number]
        atoms.calc = AtomsMLCalculator("organic-xtb", device="cpu", precision="float64")
        start = atoms.get_potential_energy()
        if isinstance(work, Relaxations):
            state = relax(atoms, work.settings)
            assert (row.converged, row.ended, row.steps) == (True, "converged", state.step)
            assert row.max_force == pytest.approx(state.fmax, abs=1e-7)
            assert row.energy_before == pytest.approx(start, abs=1e-9)
        assert row.state == "done"
        assert row.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(row.forces, atoms.get_forces(), atol=1e-7)
        np.testing.assert_allclose(row.toatoms().positions, atoms.positions, atol=1e-7)
    assert {number: row.reason for number, row in rows.items() if row.state == "failed"} == {
        3: "the model does not know Si; it was made for H C N O F S Cl Br",
        4: "the model gives no finite energy and forces; do atoms overlap?",
    }
    assert found[3] == Failure(rows[3].reason)
    told = database.metadata["provenance"]
    assert told["model"] == {"name": "organic-xtb", "sha256": model_hash("organic-xtb")}
    assert (told["versions"]["atomsml"], told["options"]["precision"]) == (__version__, "float64")


def test_crystals_have_a_stress_beside_molecules(executor: Executor) -> None:
    crystal = bulk("W", a=3.3)
    found = Energies(model="refractory-pbe", device="cpu")([crystal, ase.Atoms("W2", [[0, 0, 0], [0, 0, 2.4]])])
    crystal.calc = AtomsMLCalculator("refractory-pbe", device="cpu")
    assert all(isinstance(each, Found) for each in found)
    np.testing.assert_allclose(found[0].atoms.get_stress(), crystal.get_stress(), atol=1e-6)
    assert "stress" not in found[1].atoms.calc.results
    assert math.isfinite(found[1].atoms.get_potential_energy())


def test_a_screening_goes_on_where_it_ended(executor: Executor, tmp_path: Path) -> None:
    given, path = molecules(), tmp_path / "found.db"
    begun = screen_into(path, given, ENERGIES, executor, chunk=1, at_once=1, retries=0)
    first = [next(begun)[0] for _ in range(4)]
    begun.close()
    rest = [number for number, _ in screen_into(path, given, ENERGIES, executor, chunk=2, retries=0)]
    assert (sorted(first), sorted(rest)) == ([0, 1, 2, 3], [3, 4, 5])  # what failed is tried again
    rows = list(ase.db.connect(path).select())
    assert sorted(row.number for row in rows) == list(range(6))
    held = [atoms.copy() for atoms in given]
    held[0].set_constraint(FixAtoms([0]))
    for others, work, what in (
        (given[::-1], ENERGIES, "other structures"),
        (held, ENERGIES, "other structures"),
        (given, Relaxations(model="organic-xtb"), "other work"),
        (given, replace(ENERGIES, model="refractory-pbe"), "another model"),
        (given, replace(ENERGIES, exact=True), "other options"),
    ):
        with pytest.raises(ValueError, match=f"found.db is of {what}"):
            next(screen_into(path, others, work, executor))
    with pytest.raises(ValueError, match=r"found.json must end in \.db"):
        next(screen_into(tmp_path / "found.json", given, ENERGIES, executor))


def test_a_worker_with_another_file_refuses(executor: Executor) -> None:
    work = replace(ENERGIES)
    object.__setattr__(work, "sha256", "0" * 64)  # as if it had been made where the name means another file
    ((_, failure),) = screen(molecules()[:1], work, executor, retries=0)
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("ValueError: the worker has another file as the model organic-xtb: sha256 ")
