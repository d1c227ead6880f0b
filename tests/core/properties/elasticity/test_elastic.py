"""Elastic constants beside differences of energies by hand, matscipy, pymatgen and published ones, same calculators."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.calculators.emt import EMT
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si
from pymatgen.analysis.elasticity import ElasticTensor as ElasticTensorOfPymatgen
from pymatgen.analysis.elasticity import Strain, Stress
from scipy.spatial.transform import Rotation

from atomsml import AtomsMLCalculator
from atomsml.properties.elasticity.elastic import ElasticSettings, elastic_constants
from atomsml.properties.elasticity.tensor import BASIS
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start
from atomsml.units import GPA

TURN = Rotation.from_rotvec([0.3, 0.5, -0.9]).as_matrix()

# Tersoff, Phys. Rev. B 39, 5566 (1989)
TERSOFF = TersoffParameters(
    m=3, gamma=1, lambda3=0, c=1.0039e5, d=16.217, h=-0.59825, n=0.78734, beta=1.1e-6,
    lambda2=1.7322, B=471.18, R=2.85, D=0.15, lambda1=2.4799, A=1830.8,
)  # fmt: skip
SILICON = {
    "tersoff": Tersoff({("Si", "Si", "Si"): TERSOFF}),
    "stillinger-weber": Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si)),
}
# GPa, C11 and C12 of libAtoms/silicon-testing-framework, whose C44 of relaxed atoms is 5 % lower, by its looser
# relaxation
PUBLISHED = {"tersoff": (142.5, 75.6), "stillinger-weber": (151.3, 76.5)}


def by_energies(atoms, calculator, strain, relaxed):
    """GPa: the second derivative of the energy along a strain over the volume, by four points."""
    energies, step = [], 0.004
    for factor in (-2, -1, 0, 1, 2):
        image = atoms.copy()
        image.set_cell(atoms.cell.array @ (np.eye(3) + factor * step * strain), scale_atoms=True)
        image.calc = calculator
        if relaxed:
            BFGS(image, logfile=None).run(fmax=1e-6)
        energies.append(image.get_potential_energy())
    return np.dot([-1, 16, -30, 16, -1], energies) / (12 * step**2) / atoms.get_volume() / GPA


def cubic_by_energies(atoms, calculator, relaxed=True):
    """C11, C12, C44 from uniaxial, equibiaxial and shear strains."""
    c11 = by_energies(atoms, calculator, np.diag([1.0, 0, 0]), relaxed)
    both = by_energies(atoms, calculator, np.diag([1.0, 1, 0]), relaxed)
    shear = by_energies(atoms, calculator, np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]), relaxed)
    return c11, both / 2 - c11, shear


def constants(found):
    return found.tensor.voigt[[0, 0, 3], [0, 1, 3]]


@pytest.mark.parametrize("metal", ["Cu", "Ni"])
def test_of_metals_as_by_hand(metal):
    metals, settings = [bulk(metal, cubic=True)], ElasticSettings(strain=0.003)
    [(_, found)] = elastic_constants(metals, Engine.of_ase(EMT()), settings, Start(fmax=1e-4, cell=True))
    assert constants(found) == pytest.approx(cubic_by_energies(found.atoms, EMT(), relaxed=False), rel=1e-3)
    assert found.independent == 3
    assert found.strains == ("xx", "yz")
    assert found.residual < 1e-3


@pytest.mark.parametrize("potential", SILICON)
def test_of_silicon_as_by_hand_and_as_published(potential):
    """Differences miss by the square of the strains, 1e-4, times the ratio of fifth- and second-order constants."""
    calculator = SILICON[potential]
    settings = ElasticSettings(strain=0.005)
    [(_, found)] = elastic_constants([bulk("Si")], Engine.of_ase(calculator), settings, Start(fmax=1e-4, cell=True))
    assert constants(found) == pytest.approx(cubic_by_energies(found.atoms, calculator), rel=1e-3)
    assert constants(found)[:2] == pytest.approx(PUBLISHED[potential], rel=3e-3)


def test_of_clamped_silicon_as_by_hand():
    calculator = SILICON["stillinger-weber"]
    [(_, found)] = elastic_constants([bulk("Si")], Engine.of_ase(calculator), ElasticSettings(clamped=True))
    assert constants(found) == pytest.approx(cubic_by_energies(found.atoms, calculator, relaxed=False), rel=1e-3)
    assert constants(found)[2] > 100  # twice that of relaxed atoms


def test_is_what_pymatgen_fits_to_strains_and_stresses():
    """Of a crystal without symmetry; pymatgen's strains are of Lagrange's kind, which differ by 1 % of themselves."""
    atoms = Atoms("CuNi2Au", np.random.default_rng(1).normal(scale=0.05, size=(4, 3)), pbc=True)
    atoms.set_cell([3.7, 3.8, 3.9], scale_atoms=False)
    atoms.positions += np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) @ atoms.cell
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5)
    strains, stresses = [], []
    for matrix in BASIS:
        for step in (-0.002, -0.001, 0.001, 0.002):
            image = atoms.copy()
            image.set_cell(atoms.cell.array @ (np.eye(3) + step * matrix), scale_atoms=True)
            image.calc = EMT()
            BFGS(image, logfile=None).run(fmax=1e-5)
            strains.append(Strain(step * matrix))
            stresses.append(Stress(image.get_stress(voigt=False) / GPA))
    other = ElasticTensorOfPymatgen.from_pseudoinverse(strains, stresses)
    settings = ElasticSettings(strain=0.002, symmetry=False)
    start = Start(fmax=1e-4, cell=True, relax=False)
    [(_, found)] = elastic_constants([atoms], Engine.of_ase(EMT()), settings, start)
    assert found.strains == ("xx", "yy", "zz", "yz", "xz", "xy")
    assert found.independent == 21
    assert np.allclose(found.tensor.voigt, (other.voigt + other.voigt.T) / 2, atol=0.2)


@pytest.fixture(scope="module")
def engine():
    return Engine.of(AtomsMLCalculator("universal-small", device="cpu", precision="float64"))


def plain(atoms):
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)


def alloy():
    """Three metals on the sites of copper, in an order without symmetry."""
    atoms = make_supercell(bulk("Cu", a=3.8), [[-1, 2, 1], [2, 0, 0], [0, 2, -1]])
    atoms.symbols = "CuAuNiCuNi2CuNi"
    return atoms


TRIGONAL, TETRAGONAL = [4.76, 4.76, 12.99, 90, 90, 120], [4.6, 4.6, 2.96, 90, 90, 90]
CRYSTALS = {
    "hexagonal": bulk("ZnO", "wurtzite", a=3.25, c=5.2),
    "trigonal": plain(crystal("AlO", [(0, 0, 0.352), (0.306, 0, 0.25)], None, 167, 1, TRIGONAL, primitive_cell=True)),
    "tetragonal": plain(crystal("TiO", [(0, 0, 0), (0.305, 0.305, 0)], None, 136, 1, TETRAGONAL)),
    "triclinic": alloy(),
}
INDEPENDENT = {"hexagonal": 5, "trigonal": 6, "tetragonal": 6, "triclinic": 21}
START = Start(fmax=1e-4, cell=True)


@pytest.mark.parametrize("kind", CRYSTALS)
def test_reduced_by_symmetry_is_as_without_and_turned_is_turned_and_repeated_is_the_same(kind, engine):
    """To 0.3 % of the largest constant: what the residuals allow, fmax 1e-4 and quadratic terms of 1e-4."""
    atoms = CRYSTALS[kind]
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ TURN.T, scale_atoms=True)
    repeated = make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, 0, 1]]) * (1, 1, 2)
    found = dict(elastic_constants([atoms, turned, repeated], engine, start=START))
    [(_, whole)] = elastic_constants([atoms], engine, ElasticSettings(symmetry=False), START)
    within = 0.003 * np.abs(whole.tensor.voigt).max()
    assert found[0].independent == found[1].independent == found[2].independent == INDEPENDENT[kind]
    assert np.allclose(found[0].tensor.voigt, whole.tensor.voigt, atol=within)
    assert np.allclose(found[1].tensor.voigt, whole.tensor.rotated(TURN).voigt, atol=within)
    assert np.allclose(found[2].tensor.voigt, whole.tensor.voigt, atol=within)
    assert found[1].debye_temperature == pytest.approx(whole.debye_temperature, rel=0.01)


def test_an_unstable_crystal_is_no_failure_but_is_not_stable():
    [(_, found)] = elastic_constants([bulk("Cu", "sc", a=2.4)], Engine.of_ase(EMT()))
    assert not found.tensor.stable
    assert np.isnan(found.tensor.shear)


def test_what_has_no_answer_is_told_and_does_not_stop_the_others():
    strange = [bulk("Cu", a=3.4), bulk("Cu", a=30.0), bulk("Cu", a=3.5898)]  # pressed, apart, at rest by EMT
    start = Start(fmax=0.005, cell=True, relax=False)
    found = dict(elastic_constants(strange, Engine.of_ase(EMT()), start=start))
    assert "is not at rest in its cell" in found[0].reason
    assert "resists no strain" in found[1].reason
    assert found[2].tensor.stable


def test_a_step_too_few_is_told():
    start = Start(fmax=1e-4, cell=True, steps=1)
    [(_, found)] = elastic_constants([bulk("Si", a=5.43095)], Engine.of_ase(SILICON["stillinger-weber"]), start=start)
    assert isinstance(found, Failure)
    assert "found no minimum" in found.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strain": 0.0}, "above 0 and at most 0.1, got 0.0"),
        ({"strain": float("nan")}, "above 0 and at most 0.1, got nan"),
        ({"magnitudes": 0}, "at least one magnitude"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ElasticSettings(**settings)


def held():
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(FixAtoms([0]))
    return atoms


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (molecule("H2O"), "periodic along all three axes"),
        (Atoms("Cu", pbc=True), "has no volume"),
        (Atoms("Cu", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "has no volume"),
        (held(), "take its constraints away"),
    ],
)
def test_what_is_no_free_crystal_is_refused(atoms, message):
    with pytest.raises(ValueError, match=message):
        list(elastic_constants([atoms], Engine.of_ase(EMT())))
