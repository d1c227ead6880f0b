"""Trimming keeps what the radial functions are, as far as their basis can say it."""

from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from scipy import linalg

from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.nequip import NequIP, NequIPConfig
from atomsml.potentials.nequip_trim import SHORTEST, trim_radial
from atomsml.potentials.sevennet_checkpoint import convert

DATA = Path(__file__).parents[1] / "data" / "sevennet"


@pytest.fixture(scope="module")
def sevennet() -> NequIP:
    """Random weights: their radial functions are smooth, as trained ones are."""
    return convert(DATA / "graded.pth")[0]


def test_counts_and_r2(sevennet: NequIP) -> None:
    trimmed, report = trim_radial(sevennet)
    saved = sum(
        sum(w.numel() for w in layer.radial.weights) - 8 * layer.table.num_weights for layer in sevennet.all_layers
    )
    assert report.parameters_before == sum(w.numel() for w in sevennet.parameters())
    assert report.parameters_after == sum(w.numel() for w in trimmed.parameters()) == report.parameters_before - saved
    assert trimmed.config.radial_mlp == ()
    # the same fit by scipy, on another grid of the same density
    r = np.linspace(SHORTEST, sevennet.cutoff, 777)
    basis = sevennet.radial_basis(torch.from_numpy(r))
    for layer, found in zip(sevennet.all_layers, report.r2, strict=True):
        wanted = r[:, None] * layer.radial(basis).detach().numpy()
        left = linalg.lstsq(r[:, None] * basis.detach().numpy(), wanted)[1]
        assert found == pytest.approx(1 - left.sum() / (wanted**2).sum(), abs=1e-4)
        assert 0.9 < found < 1


def test_what_the_basis_can_say_is_kept_exactly() -> None:
    """A network whose only hidden layer is so small a number that SiLU(x) = gain x / 2 is a linear map."""
    torch.manual_seed(0)
    config = NequIPConfig(elements=(1, 8), channels=(4, 2), lmax=1, num_layers=2, radial_mlp=(6,), readout_channels=4)
    potential = NequIP(config).cast(torch.float64)
    with torch.no_grad():
        for layer in potential.all_layers:
            layer.radial.weights[0] *= 1e-6
            layer.radial.weights[1] *= 1e6
    trimmed, report = trim_radial(potential)
    assert min(report.r2) > 1 - 1e-9
    graph = AtomicGraph.from_ase(ase.Atoms("OHH", [(0, 0, 0), (1.1, 0.1, 0), (-0.2, 1.2, 0.3)]))
    before, after = (evaluate(model, graph) for model in (potential, trimmed))
    # SiLU(x) - gain x / 2 is of order x^2 / 4: 1e-6 of the weights
    torch.testing.assert_close(after.forces, before.forces, rtol=0, atol=1e-4 * before.forces.abs().max().item())


def test_energies_change_little(sevennet: NequIP) -> None:
    """The golden structures whose atoms stay farther apart than the fit begins."""
    with np.load(DATA / "golden.npz") as file:
        slab = ase.Atoms(**{key: file[f"slab/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    graph = AtomicGraph.from_ase(slab)
    before, after = (evaluate(model, graph) for model in (sevennet, trim_radial(sevennet)[0]))
    free = sevennet.references[sevennet.species(graph.numbers)]
    # each layer loses a few per cent of the squares of its weights: a fifth of their size, as random functions do
    assert (after.atom_energies - before.atom_energies).norm() < 0.2 * (before.atom_energies - free).norm()
    assert (after.forces - before.forces).norm() < 0.5 * before.forces.norm()


def test_a_trimmed_potential_has_nothing_to_trim(sevennet: NequIP) -> None:
    with pytest.raises(ValueError, match="nothing to trim"):
        trim_radial(trim_radial(sevennet)[0])
