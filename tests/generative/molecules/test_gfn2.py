"""Relaxing with GFN2-xTB: the minimum that tblite has itself, what cannot be computed, and where tblite is missing."""

from importlib.util import find_spec

import ase
import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.optimize import BFGS

from atomsml.generative.molecules import gfn2
from atomsml.generative.molecules.gfn2 import relax_gfn2
from atomsml.simulate.relax import RelaxSettings


@pytest.mark.skipif(find_spec("tblite") is None, reason="tblite is not installed")
def test_strain_is_that_of_another_optimizer() -> None:
    """ASE's, with tblite's energies: both end within fmax^2 over the softest curvature, far below 0.01 kcal/mol."""
    from tblite.ase import TBLite

    rng = np.random.default_rng(0)
    molecules = [molecule("H2O"), molecule("HCN")]
    for atoms in molecules:
        atoms.positions += rng.normal(scale=0.04, size=atoms.positions.shape)
    unknown = ase.Atoms("Og")
    done = sorted(relax_gfn2([*molecules, unknown], RelaxSettings(fmax=0.005)), key=lambda one: one.index)
    assert [one.index for one in done] == [0, 1, 2]
    for atoms, one in zip(molecules, done, strict=False):
        atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
        start = atoms.get_potential_energy()
        BFGS(atoms, logfile=None).run(fmax=0.005)
        oracle = (start - atoms.get_potential_energy()) / (units.kcal / units.mol)
        assert one.strain == pytest.approx(oracle, abs=0.01)
        assert one.converged
        assert one.bonds_kept
    assert (done[2].converged, done[2].bonds_kept) == (False, False)
    assert np.isnan(done[2].strain)


def test_says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gfn2, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tblite"):
        next(relax_gfn2([molecule("CH4")]))
