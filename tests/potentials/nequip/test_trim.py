"""Trimming keeps what the radial functions are, as far as a few functions can say it."""

import dataclasses
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from scipy import linalg

from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.nequip.model import NequIP, NequIPConfig, RadialBasis
from atomsml.potentials.nequip.sevennet_checkpoint import convert
from atomsml.potentials.nequip.trim import NUM_SPLINES, RANK, SHORTEST, low_rank_fit, trim_radial

DATA = Path(__file__).parents[2] / "data" / "sevennet"


@pytest.fixture(scope="module")
def wide() -> NequIP:
    """The golden SevenNet with wider radial networks of random weights: smooth functions, as trained ones are."""
    golden = convert(DATA / "graded.pth")[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        potential = NequIP(dataclasses.replace(golden.config, radial_mlp=(32, 32))).cast(torch.float64)
    rest = {name: x for name, x in golden.state_dict().items() if ".radial." not in name}
    potential.load_state_dict(rest, strict=False)
    return potential.eval()


def test_counts_and_r2(wide: NequIP) -> None:
    trimmed, report = trim_radial(wide)
    saved = sum(
        sum(w.numel() for w in layer.radial.weights) - RANK * (NUM_SPLINES + layer.table.num_weights)
        for layer in wide.all_layers
    )
    assert report.parameters_before == sum(w.numel() for w in wide.parameters())
    frequencies = wide.config.num_bessel
    assert report.parameters_after == sum(w.numel() for w in trimmed.parameters())
    assert report.parameters_after == report.parameters_before - saved - frequencies
    assert trimmed.config.radial_mlp == ()
    # the fit without a bound on the rank, truncated by a singular value decomposition, by scipy and on another grid
    r = torch.linspace(SHORTEST, wide.cutoff, 777, dtype=torch.float64)
    splines, bessel = (model.radial_basis(r).detach() for model in (trimmed, wide))
    for old, new, found in zip(wide.all_layers, trimmed.all_layers, report.r2, strict=True):
        root = r.sqrt()[:, None].numpy()
        wanted = root * old.radial(bessel).detach().numpy()
        seen = root * splines.numpy()
        full = seen @ linalg.lstsq(seen, wanted)[0]
        u, s, v = linalg.svd(full, full_matrices=False)
        best = (u[:, :RANK] * s[:RANK]) @ v[:RANK]
        assert found == pytest.approx(1 - ((best - wanted) ** 2).sum() / (wanted**2).sum(), abs=1e-4)
        ours = root * new.radial(new.basis(splines)).detach().numpy()
        np.testing.assert_allclose(ours, best, rtol=0, atol=0.01 * np.abs(wanted).max())
        assert 0.99 < found < 1


def test_functions_of_low_rank_are_kept_exactly() -> None:
    """Combinations of `rank` combinations of the basis, some of whose functions are zero at all points."""
    rng = np.random.default_rng(0)
    basis = torch.from_numpy(np.concatenate([np.zeros((40, 2)), rng.normal(size=(40, 6))], axis=1))
    wanted = basis @ torch.from_numpy(rng.normal(size=(8, 3)) @ rng.normal(size=(3, 20)))
    a, b = low_rank_fit(basis, wanted, 3)
    torch.testing.assert_close(basis @ a @ b, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(b @ b.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert a[:2].abs().max() < 1e-12


def test_energies_change_little(wide: NequIP) -> None:
    """The golden slab, whose atoms stay farther apart than the fit begins."""
    with np.load(DATA / "golden.npz") as file:
        slab = ase.Atoms(**{key: file[f"slab/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    graph = AtomicGraph.from_ase(slab)
    before, after = (evaluate(model, graph) for model in (wide, trim_radial(wide)[0]))
    free = wide.references[wide.species(graph.numbers)]
    assert before.forces is not None
    assert after.forces is not None
    # R2 > 0.99 leaves up to 10 % of the size of each layer's functions
    assert (after.atom_energies - before.atom_energies).norm() < 0.1 * (before.atom_energies - free).norm()
    assert (after.forces - before.forces).norm() < 0.2 * before.forces.norm()


@pytest.mark.parametrize("onset", [None, 3.5])
def test_splines_end_as_bessel_functions_do(onset: float | None) -> None:
    """At the same distances near the cutoff, both bases are smooth functions times the same envelope."""
    config = NequIPConfig(elements=(1,), xplor_onset=onset)
    r = torch.tensor([4.9, 4.99, 4.999, 5.0, 5.1], dtype=torch.float64)
    basis = RadialBasis(config).double()
    bessel = basis(r)[:, 0] / torch.sin(basis.frequencies[0] * r)
    splines = RadialBasis(dataclasses.replace(config, num_splines=12)).double()(r).sum(dim=1)
    torch.testing.assert_close(splines[:3], 12**0.5 * bessel[:3], rtol=1e-9, atol=0)  # the splines sum to 1
    assert splines[3:].tolist() == [0, 0]


def test_what_cannot_be_trimmed_is_refused(wide: NequIP) -> None:
    with pytest.raises(ValueError, match="nothing to trim"):
        trim_radial(trim_radial(wide)[0])
    with pytest.raises(ValueError, match="too small"):
        trim_radial(convert(DATA / "graded.pth")[0])
