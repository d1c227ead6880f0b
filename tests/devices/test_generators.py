"""Every generator on every device: its loss, and what it draws, free and with all that can be asked for.

Noise is drawn on the CPU whatever the device, so that the same seeds draw the same molecules, up to rounding.
"""

from __future__ import annotations

import copy
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from rdkit import Chem

from atomsml.generative import GENERATORS
from atomsml.generative.core.fields import Field, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.gaussian import PolynomialVP
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.samplers.adaptive import Adaptive
from atomsml.generative.core.samplers.base import GridSampler, time_grid
from atomsml.generative.core.spaces.euclidean import Euclidean
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.model import GraphModel
from atomsml.generative.graphs.set import GraphSet
from atomsml.generative.molecules.edm.model import EDM
from atomsml.generative.molecules.flow.model import NetworkConfig
from atomsml.generative.molecules.graph_flow.model import GraphFlow
from atomsml.generative.molecules.model import MoleculeModel, draw_requests
from atomsml.generative.molecules.molecules import Molecules, Scaffold
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.generative.molecules.symphony.model import Symphony
from atomsml.io import parse_smiles

TINY = NetworkConfig(channels=8, pair_channels=8, vectors=2, hidden=8, num_layers=2)
OPTIONS: dict[str, dict[str, Any]] = {
    "flow": {"skeleton": TINY, "hydrogens": TINY},
    "edm": {"channels": 8, "num_layers": 2},
    "graph-flow": {"skeleton": TINY, "hydrogens": TINY},
    "symphony": {"channels": 8, "hidden": 8, "num_layers": 1, "num_mixtures": 2, "num_peaks": 2},
}
IMAGES = [molecule(name) for name in ("CH3CH2OH", "CH3OCH3", "CH4", "HCN")]
ETHANOL = IMAGES[0]
SEEDS = (0, 1, 2)


def single_bonds(atoms: ase.Atoms) -> np.ndarray:
    first, second = np.nonzero(np.triu(atoms.get_all_distances() < 1.65, k=1))
    return np.stack([first, second, np.ones_like(first)], axis=1)


MOLECULES = MoleculeSet.from_rows(
    [atoms.numbers for atoms in IMAGES],
    [atoms.positions for atoms in IMAGES],
    [single_bonds(atoms) for atoms in IMAGES],
    {"gap": np.array([1.0, 2.0, np.nan, 4.0]), "dipole": np.array([0.1, 0.2, 0.3, 0.4])},
)


def graph_model() -> GraphModel:
    graphs = MolecularGraphs.from_mols([parse_smiles(smiles) for smiles in ("CCO", "COC", "C", "C#N")])
    samples = GraphSet(graphs.to(torch.int8), np.arange(len(graphs), dtype=np.uint64))
    sizes = {"channels": 8, "pair_channels": 8, "triangle_channels": 4, "hidden": 8, "num_layers": 1}
    made = GraphModel(GraphModel.Config(**GraphModel.measure(samples), **sizes))
    made.fit(samples)
    return made


def test_no_generator_is_left_out() -> None:
    assert set(OPTIONS) == {name for name, generator in GENERATORS.items() if generator.kind == "molecules"}


@pytest.fixture(params=OPTIONS)
def here(request: pytest.FixtureRequest, dtype: torch.dtype) -> MoleculeModel:
    """With random weights, on the CPU."""
    generator = GENERATORS[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        graphs = graph_model()
        own = {"graph-flow": {"graphs": graphs.config}, "symphony": {}}.get(
            request.param, {"conditions": ("gap", "dipole")}
        )
        made = generator(generator.Config(**own, **generator.measure(MOLECULES), **OPTIONS[request.param]))
    made.fit(MOLECULES)
    if isinstance(made, GraphFlow):
        assert made.graphs is not None
        made.graphs.load_state_dict(graphs.state_dict())
    return made.to(dtype)  # type: ignore[return-value]  # all draw molecules


@pytest.fixture
def there(here: MoleculeModel, device: torch.device) -> MoleculeModel:
    return copy.deepcopy(here).to(device)


def batch(dtype: torch.dtype) -> Molecules:
    made = MOLECULES.batch(np.arange(len(IMAGES)))
    properties = {name: torch.from_numpy(values).to(dtype) for name, values in MOLECULES.properties.items()}
    return Molecules(made.numbers, made.positions.to(dtype), made.bonds, properties)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Numbers that went through some twenty layers, beside the largest of them, which may be far above 100."""
    size = max(100.0, expected.abs().max().item())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e2 * size * torch.finfo(expected.dtype).eps)


def test_loss(here: MoleculeModel, there: MoleculeModel, device: torch.device, dtype: torch.dtype) -> None:
    for seed in range(3):  # whether there is a first guess, and known atoms, is drawn
        found = there.loss(batch(dtype).to(device), torch.Generator().manual_seed(seed))
        expected = here.loss(batch(dtype), torch.Generator().manual_seed(seed))
        assert found.device == device
        found.mean().backward()
        expected.mean().backward()
        assert_close(found.detach(), expected.detach())
    for (name, one), other in zip(there.named_parameters(), here.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            assert one.grad.device == device
            scale = max(1.0, float(other.grad.abs().max()))
            assert_close(one.grad / scale, other.grad / scale)


HEAVY = ETHANOL[ETHANOL.numbers > 1]
SCAFFOLD = Scaffold(
    tuple(HEAVY.numbers.tolist()),
    torch.from_numpy(HEAVY.positions.copy()),
    (3, 2, 1),
    MolecularGraphs.from_mols([parse_smiles("CCO")]),
)
ASKED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "formula": {"formula": {1: 6, 6: 2, 8: 1}},
    "scaffold": {"scaffold": SCAFFOLD},
    "one of the conditions": {"conditions": {"gap": 2.0}, "guidance": 2.0},
    "all": {"formula": {1: 6, 6: 2, 8: 1}, "scaffold": SCAFFOLD, "conditions": {"gap": 2.0, "dipole": 0.1}},
}


def drawn(model: MoleculeModel, sampler: str = "ddpm", guidance: float = 1.0, **asked: Any) -> Molecules:
    if not model.config.conditions:
        asked.pop("conditions", None)
    requests = draw_requests(model, SEEDS, **asked)
    if isinstance(model, Symphony):
        *_, last = model.sample(requests, 9, model.default_sampler, asked.get("scaffold"))
    else:
        *_, last = model.sample(requests, 2, sampler, asked.get("scaffold"), guidance)
    return last


def assert_same(found: Molecules, expected: Molecules, device: torch.device) -> None:
    assert {x.device for x in (found.numbers, found.positions, *found.conditions.values())} == {device}
    assert torch.equal(found.numbers.cpu(), expected.numbers)
    assert_close(found.positions, expected.positions)
    assert [len(atoms) for atoms in found.to_ase()] == [len(atoms) for atoms in expected.to_ase()]


@pytest.mark.parametrize(
    "asked", [pytest.param(name, marks=() if name in ("nothing", "all") else pytest.mark.slow) for name in ASKED]
)
def test_samples(here: MoleculeModel, there: MoleculeModel, device: torch.device, asked: str) -> None:
    where = torch.device("cpu") if isinstance(here, Symphony) else device  # which puts atoms together there
    assert_same(drawn(there, **ASKED[asked]), drawn(here, **ASKED[asked]), where)


@pytest.mark.parametrize("sampler", [name for name, kind in SAMPLERS.items() if issubclass(kind, GridSampler)])
@pytest.mark.parametrize("here", ["edm"], indirect=True)
def test_samplers(here: MoleculeModel, there: MoleculeModel, device: torch.device, sampler: str) -> None:
    assert_same(drawn(there, sampler, num_atoms=5), drawn(here, sampler, num_atoms=5), device)


def test_the_sampler_that_chooses_its_steps(device: torch.device, dtype: torch.dtype) -> None:
    """Towards data at the origin, coarsely; each sample is done in its own time."""
    fields = {"x": Field(Euclidean((3,)), PolynomialVP())}

    def end(where: torch.device | str) -> torch.Tensor:
        noise, times = SampleNoise(SEEDS, (1, 4, 4), 4, dtype, where), time_grid(3, dtype, where)
        start = prior(fields, noise)
        *_, last = Adaptive(rtol=0.5, atol=0.5).sample(
            lambda state, t: {"x": 0 * state["x"]}, fields, start, times, noise
        )
        return last["x"]

    found = end(device)
    assert found.device == device
    assert_close(found, end("cpu"))


@pytest.mark.parametrize("here", ["edm"], indirect=True)
def test_likelihoods(here: MoleculeModel, there: MoleculeModel, device: torch.device, dtype: torch.dtype) -> None:
    assert isinstance(here, EDM)
    assert isinstance(there, EDM)
    found = there.nll_bound(batch(dtype).to(device), torch.Generator().manual_seed(0))
    expected = here.nll_bound(batch(dtype), torch.Generator().manual_seed(0))
    assert_close(found / 1e3, expected / 1e3)  # nats; the weight of a step reaches some thousand


def test_the_published_network_of_edm(device: torch.device, dtype: torch.dtype) -> None:
    """It knows no unknown condition, hence has none here."""
    options = {**EDM.measure(MOLECULES), "channels": 8, "num_layers": 2, "paper": True, "condition_dropout": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        here = EDM(EDM.Config(**options))
    here.fit(MOLECULES)
    here.to(dtype)
    there = copy.deepcopy(here).to(device)
    test_loss(here, there, device, dtype)
    assert_same(drawn(there), drawn(here), device)


def test_a_generator_of_graphs(device: torch.device, dtype: torch.dtype) -> None:
    """The loss, and the same graphs: undecided bonds are drawn by the same numbers everywhere."""
    mols = [Chem.MolFromSmiles(smiles) for smiles in ("CCO", "C[N+](=O)[O-]", "c1ccoc1", "CS(C)(=O)=O")]
    graphs = MolecularGraphs.from_mols(mols)
    samples = GraphSet(graphs, np.arange(len(mols), dtype=np.uint64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        here = GraphModel(GraphModel.Config(**GraphModel.measure(samples), channels=16, hidden=16, num_layers=2))
    here.fit(samples)
    here.to(dtype)
    there = copy.deepcopy(here).to(device)
    found = there.loss(graphs.to(device), torch.Generator().manual_seed(0))
    assert found.device == device
    assert_close(found.detach(), here.loss(graphs, torch.Generator().manual_seed(0)).detach())
    *_, drawn_there = there.sample(there.requests(SEEDS), 4)
    *_, drawn_here = here.sample(here.requests(SEEDS), 4)
    assert drawn_there.bonds.device == device
    assert torch.equal(drawn_there.bonds.cpu(), drawn_here.bonds)
