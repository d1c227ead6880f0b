"""Variables of cells beside ASE's filters, and their forces by finite differences."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixedLine
from ase.filters import FrechetCellFilter, UnitCellFilter
from ase.optimize import FIRE as TheirFIRE
from ase.optimize import LBFGS as TheirLBFGS

from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.cell import LENGTH, FreeCell
from atomsml.simulate.measures import MEASURES
from atomsml.simulate.model import Model
from atomsml.simulate.optimizers.fire import FIRE
from atomsml.simulate.optimizers.lbfgs import LBFGS, LBFGSMemory
from atomsml.simulate.optimizers.optimizer import Optimizer
from atomsml.simulate.relax import RelaxSettings, relax_many
from atomsml.simulate.state import State
from atomsml.units import GPA
from tests.core.simulate.optimizers.scaled_lbfgs import ScaledLBFGS

FILTERS = {"frechet": FrechetCellFilter, "deformation": UnitCellFilter}


def emt(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
    """ASE's EMT, one system after the other."""
    energies, all_forces, stresses = [], [], []
    for each in graph.to_list():
        atoms = each.to_ase()
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
        all_forces.append(torch.from_numpy(atoms.get_forces()))
        stresses.append(torch.from_numpy(atoms.get_stress(voigt=False)))
    energy = torch.tensor(energies, dtype=torch.float64)
    return Prediction(energy, torch.zeros(graph.num_atoms), torch.cat(all_forces), torch.stack(stresses))


def _crystals() -> list[ase.Atoms]:
    """A sheared and shaken alloy, and a metal that is far too large."""
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[0] = "Au"
    alloy.set_cell(alloy.cell.array @ [[1.02, 0.03, 0], [0.01, 0.97, 0.02], [0, 0.04, 1.05]], scale_atoms=True)
    alloy.rattle(0.1, seed=0)
    large = bulk("Al", a=4.3) * (1, 1, 2)
    large.rattle(0.05, seed=1)
    return [alloy, large]


def _filter(atoms: ase.Atoms, measure: str, shape: str, axes: str, pressure: float) -> UnitCellFilter:
    mask = [not {"abc"[i], "abc"[j]} & set(axes) for i, j in [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]]
    options = {"hydrostatic_strain": shape == "isotropic", "constant_volume": shape == "volume"}
    options[{"frechet": "exp_cell_factor", "deformation": "cell_factor"}[measure]] = LENGTH * len(atoms) ** 0.5
    return FILTERS[measure](atoms, mask=np.array(mask, dtype=float), scalar_pressure=pressure, **options)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("shape", "axes", "pressure"), [("free", "", 0.0), ("free", "", 5.0), ("isotropic", "", 2.0), ("free", "c", 0.0)]
)
@pytest.mark.parametrize("optimizer", [LBFGS, FIRE])
def test_the_steps_are_those_of_ase(
    optimizer: type[Optimizer], measure: str, shape: str, axes: str, pressure: float
) -> None:
    """Two crystals at once, and each by itself through ASE's filter; fixed axes where axes are Cartesian."""
    structures = _crystals()
    if axes:
        for atoms in structures:
            a, b, c, *_ = atoms.cell.cellpar()
            atoms.set_cell([[a, 0.1 * b, 0], [0.2 * a, b, 0], [0, 0, c]], scale_atoms=True)
    theirs = [atoms.copy() for atoms in structures]
    for atoms in theirs:
        atoms.calc = EMT()
    them = ScaledLBFGS if optimizer is LBFGS else TheirFIRE
    dynamics = [them(_filter(atoms, measure, shape, axes, pressure * GPA), logfile=None) for atoms in theirs]

    state, model = State.of(structures), Model(emt)
    coordinates = FreeCell(MEASURES[measure], pressure * GPA, shape, ["abc".index(axis) for axis in axes], None)
    memory = coordinates.start(state)
    ours = optimizer()
    remembered = ours.start(coordinates.variables(state, memory))
    for done in range(8):
        model(state, stress=True)
        variables, forces = coordinates.variables(state, memory), coordinates.forces(state, memory)
        coordinates.move(state, memory, ours.step(remembered, variables, forces, coordinates.energy(state)))
        if isinstance(remembered, LBFGSMemory) and remembered.rejected.any():
            assert done >= 3  # ASE would go on from where the energy rose
            break
        for each in dynamics:
            each.step()
        positions = state.positions.split(state.atoms_per_system.tolist())
        for x, cell, atoms in zip(positions, state.cell, theirs, strict=True):
            np.testing.assert_allclose(cell.numpy(), atoms.cell.array, rtol=0, atol=1e-8)
            np.testing.assert_allclose(x.numpy(), atoms.positions, rtol=0, atol=1e-8)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("shape", "axes"), [("free", []), ("isotropic", []), ("volume", []), ("free", [0, 2])])
def test_forces_are_minus_the_gradient(measure: str, shape: str, axes: list[int]) -> None:
    """By central differences, after a large deformation, under pressure."""
    state, model = State.of(_crystals()), Model(emt)
    coordinates = FreeCell(MEASURES[measure], 3 * GPA, shape, axes, None)
    memory = coordinates.start(state)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 9, 1, dtype=torch.float64, generator=generator)
    here = coordinates.variables(state, memory)
    here = here.like(here.atoms, here.cell + 0.3 * (memory.strains @ noise).reshape(2, 3, 3))
    coordinates.move(state, memory, here)
    model(state, stress=True)
    forces = coordinates.forces(state, memory)
    atoms = torch.randn(here.atoms.shape, dtype=torch.float64, generator=generator)
    cell = torch.randn(2, 9, 1, dtype=torch.float64, generator=generator)
    along = here.like(atoms, (memory.strains @ cell).reshape(2, 3, 3))
    energies = []
    step = torch.full((2,), 1e-4, dtype=torch.float64)
    for sign in (1, -1):
        coordinates.move(state, memory, here + along.times(sign * step))
        model(state, stress=True)
        energies.append(coordinates.energy(state))
    slope = (energies[0] - energies[1]) / 2e-4
    # EMT's own stress and forces agree with its energy to 1e-7 or so, and the third derivative costs step^2
    torch.testing.assert_close(-forces.dot(along), slope, rtol=1e-6, atol=1e-6)


def test_where_crystals_end_is_where_ase_ends() -> None:
    """Cells and energies by relaxations to the end; forces and stresses vanish, and both count."""
    settings = RelaxSettings(fmax=1e-3, cell=True, steps=500)
    done = {each.index: each for each in relax_many(_crystals(), Model(emt), settings)}
    for i, atoms in enumerate(_crystals()):
        atoms.calc = EMT()
        TheirLBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=500)
        found = done[i]
        assert found.state.converged
        assert found.state.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert found.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-3)
        found.atoms.calc = EMT()
        forces, stress = found.atoms.get_forces(), found.atoms.get_stress(voigt=False)
        assert found.state.fmax == pytest.approx(np.linalg.norm(forces, axis=1).max(), rel=1e-6)
        assert found.state.stress == pytest.approx(np.abs(stress).max() / GPA, rel=1e-6)
        rows = np.linalg.norm(stress * found.atoms.get_volume() / len(atoms), axis=1)
        assert max(found.state.fmax, rows.max()) <= 1e-3


def test_a_strained_crystal_without_forces_has_not_converged() -> None:
    (done,) = relax_many([bulk("Cu", a=3.7)], Model(emt), RelaxSettings(cell=True, steps=1, fmax=0.01))
    assert done.state.reason == "out of steps"
    assert done.state.fmax < 1e-10
    assert done.state.stress is not None
    assert done.state.stress > 1


def test_pressure_volume_and_axes_are_kept() -> None:
    start = _crystals()[0]

    def relaxed(**options: object) -> ase.Atoms:
        settings = RelaxSettings(fmax=1e-3, cell=True, steps=500, **options)  # type: ignore[arg-type]
        (done,) = relax_many([start], Model(emt), settings)
        assert done.state.converged
        return done.atoms

    pressed = relaxed(pressure=10.0)
    # a row of V (stress + p) / N is below 1e-3 eV
    tolerance = 1e-3 * 4 / pressed.get_volume()
    np.testing.assert_allclose(pressed.get_stress(voigt=False), -10 * GPA * np.eye(3), rtol=0, atol=tolerance)
    assert relaxed(shape="volume").get_volume() == pytest.approx(start.get_volume(), rel=1e-12)
    np.testing.assert_allclose(relaxed(fixed_axes="ab").cell.array[:2], start.cell.array[:2], rtol=0, atol=1e-12)
    angles = relaxed(shape="isotropic").cell.cellpar()
    ratio = angles[:3] / start.cell.cellpar()[:3]
    assert np.ptp(ratio) < 1e-12
    assert abs(ratio[0] - 1) > 1e-3
    np.testing.assert_allclose(angles[3:], start.cell.cellpar()[3:], rtol=0, atol=1e-10)


def test_held_atoms_keep_their_fractional_places_and_lines() -> None:
    atoms = _crystals()[0]
    atoms.set_constraint([FixAtoms([0]), FixedLine([2], [0, 0, 1])])
    (done,) = relax_many([atoms], Model(emt), RelaxSettings(fmax=0.01, cell=True, steps=300))
    assert done.state.converged
    before, after = atoms.get_scaled_positions(wrap=False), done.atoms.get_scaled_positions(wrap=False)
    np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-12)
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_cells_do_not_depend_on_what_is_beside_them() -> None:
    structures = [*_crystals(), bulk("Ni", a=3.3), bulk("Pt", cubic=True)]
    settings = RelaxSettings(cell=True, fmax=0.02)
    together = {done.index: done for done in relax_many(structures, Model(emt), settings)}
    few = {done.index: done for done in relax_many(structures, Model(emt), settings, room=Room(atoms=5))}
    backwards = {3 - done.index: done for done in relax_many(structures[::-1], Model(emt), settings)}
    for i in range(4):
        for other in (few[i], backwards[i]):
            assert together[i].state.step == other.state.step > 0
            np.testing.assert_allclose(together[i].atoms.positions, other.atoms.positions, rtol=0, atol=1e-10)
            np.testing.assert_allclose(together[i].atoms.cell.array, other.atoms.cell.array, rtol=0, atol=1e-10)
