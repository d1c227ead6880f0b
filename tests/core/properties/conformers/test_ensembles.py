"""Conformers of molecules whose conformers are known, and weights beside the formula."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from atomsml import AtomsMLCalculator
from atomsml.io.molecules import atoms_from_smiles
from atomsml.properties.conformers.ensembles import ConformerSettings, boltzmann, conformers
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start
from atomsml.units import KB, KCAL


@pytest.fixture(scope="module")
def engine():
    return Engine.of(AtomsMLCalculator("organic-xtb"))


def _signs(angles):
    """Of torsions: t within 40 degrees of 180, g+ and g- below 120."""
    return tuple("t" if abs(a) > 140 else "g+" if a > 0 else "g-" for a in angles)


def _torsions(ensemble, i):
    return [(ensemble.conformers[i].get_dihedral(*each) + 180) % 360 - 180 for each in ensemble.torsions]


def test_of_alkanes_are_those_of_the_textbook(engine):
    """Butane has t and g; pentane tt, tg, gg and the distorted g+g-: without mirror images, which are counted.

    By hand, pentane has 1, 4 and 2 ways of tt, tg and gg, and 4 of g+g-, whose symmetry is lost: one of its torsions is
    near 60 degrees, the other near 95.
    """
    names = ("CCCC", "CCCCC")
    found = dict(conformers([atoms_from_smiles(smiles) for smiles in names], engine, ConformerSettings(seeds=50)))
    butane, pentane = found[0], found[1]
    assert [_signs(_torsions(butane, i)) for i in range(2)] in ([("t",), ("g+",)], [("t",), ("g-",)])
    assert butane.degeneracies.tolist() == [1, 2]
    assert butane.energies[1] / KCAL == pytest.approx(0.55, abs=0.05)  # of the model, by a scan of the torsion
    assert len(pentane.conformers) == 4
    assert pentane.degeneracies.tolist() == [1, 4, 2, 4]
    kinds = [sorted(_signs(_torsions(pentane, i))) for i in range(4)]
    assert kinds[0] == ["t", "t"]
    assert "t" in kinds[1]
    assert kinds[1] != kinds[0]
    assert kinds[2] in (["g+", "g+"], ["g-", "g-"])
    assert kinds[3] == ["g+", "g-"]
    last = sorted(map(abs, _torsions(pentane, 3)))
    assert last[0] == pytest.approx(62, abs=10)
    assert last[1] == pytest.approx(95, abs=15)
    assert not pentane.lost
    assert sorted(number for some in pentane.found_by for number in some) == list(range(51))


def test_weights_are_the_formula(engine):
    [(_, ethanol)] = conformers([atoms_from_smiles("CCO")], engine, ConformerSettings(temperature=400.0))
    assert len(ethanol.conformers) == 2
    first, second = ethanol.degeneracies
    ratio = second / first * np.exp(-ethanol.energies[1] / (KB * 400))
    np.testing.assert_allclose(ethanol.weights, [1 / (1 + ratio), ratio / (1 + ratio)], rtol=1e-12)
    assert ethanol.free_energy == pytest.approx(-KB * 400 * np.log(first * (1 + ratio)), rel=1e-9)


def test_boltzmann_of_levels_whose_sum_is_known():
    """A harmonic ladder: Z = 1 / (1 - exp(-h))."""
    temperature, spacing = 300.0, 0.3 * KB * 300
    weights, free_energy = boltzmann(5.0 + spacing * np.arange(300), np.ones(300), temperature)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(1 - np.exp(-0.3))
    assert free_energy == pytest.approx(5.0 + KB * temperature * np.log(1 - np.exp(-0.3)))
    assert boltzmann(np.array([0.0, 0.0]), np.array([1.0, 3.0]), 10.0)[0].tolist() == [0.25, 0.75]


def test_stereo_centres_stay(engine):
    """Two of three isomers of butane-2,3-diol: one is its mirror image, one is not."""
    meso, chiral = "C[C@H](O)[C@@H](O)C", "C[C@@H](O)[C@@H](O)C"
    found = dict(conformers([atoms_from_smiles(s) for s in (meso, chiral)], engine, ConformerSettings(8), Start(0.02)))
    assert found[0].isomer != found[1].isomer
    for ensemble in found.values():
        assert (np.diff(ensemble.energies) >= 0).all()
        assert ensemble.undefined == ""
    assert 2 in found[0].degeneracies
    assert set(found[1].degeneracies.tolist()) <= {1.0, 2.0}


def test_open_stereochemistry_is_told(engine):
    smiles = ("CC(O)C(=O)O", "FC=CF")
    found = dict(conformers([atoms_from_smiles(each) for each in smiles], engine, ConformerSettings(seeds=3)))
    assert found[0].undefined == "atoms 1"
    assert found[1].undefined == "the bond 1-2"
    assert "@" in found[0].isomer
    assert "/" in found[1].isomer


def test_the_window_and_what_is_lost(engine):
    glycol = atoms_from_smiles("OCCO")
    [(_, wide)] = conformers([glycol], engine, ConformerSettings(20, window=20), Start(0.01))
    [(_, narrow)] = conformers([glycol], engine, ConformerSettings(20, window=0.6), Start(0.01))
    assert narrow.energies.max() <= 0.6 * KCAL
    assert len(wide.conformers) > len(narrow.conformers)
    above = sum(len(some) for some, e in zip(wide.found_by, wide.energies, strict=True) if e > 0.6 * KCAL)
    assert narrow.lost == {"above the window": above}
    pairs = [(i, j) for i in range(len(wide.conformers)) for j in range(i)]
    near = [abs(wide.energies[i] - wide.energies[j]) < 1e-4 for i, j in pairs]
    assert not any(near)  # in glycol no two of them are equal by accident


def test_molecules_that_react_are_counted():
    """A calculator that knows nothing of molecules: with EMT nothing stays as it was."""
    [(_, found)] = conformers([atoms_from_smiles("CCO")], Engine.of_ase(EMT()), ConformerSettings(seeds=3), Start(0.05))
    assert isinstance(found, Failure)
    assert "no conformer is left of 3 seeds and the given geometry" in found.reason
    assert "reacted" in found.reason


def test_given_geometries_without_bonds_are_perceived(engine):
    [(_, found)] = conformers([molecule("CH3CH2OH")], engine, ConformerSettings(seeds=10))
    assert found.perceived
    assert found.conformers[0].info["bonds"].shape == (8, 3)
    pair = molecule("H2O")
    pair.translate(4)
    pair += molecule("H2O")
    [(_, refused)] = conformers([pair], engine)
    assert "is 2 molecules" in refused.reason


def test_crystals_and_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="conformers are of molecules"):
        list(conformers([bulk("Cu")], Engine.of_ase(EMT())))
    for wrong in ({"seeds": 0}, {"seed": -1}, {"temperature": 0.0}, {"window": float("nan")}, {"rmsd": -1.0}):
        with pytest.raises(ValueError, match=r"at least 1 seed|embeddings|must be a positive number"):
            ConformerSettings(**wrong)
