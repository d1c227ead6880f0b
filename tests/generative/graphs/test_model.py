"""GraphModel: draws that are right by construction, seeds, and likelihoods by enumeration."""

from __future__ import annotations

import itertools
from collections import Counter
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from scipy.stats import chisquare

from atomsml.generative.core.modelfile import load_generator, save_generator
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.graphs import pairs
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.model import GraphModel, GraphRequest
from atomsml.generative.graphs.network import Atoms
from atomsml.generative.graphs.set import GraphSet
from atomsml.generative.graphs.valences import UNDECIDED
from tests.generative.graphs.enumeration import molecules

SMILES = (
    "CC1CC1C#N",
    "O=S(=O)(c1ccccc1)N1CC1",
    "C[N+](=O)[O-]",
    "OCC(O)C=O",
    "Clc1ccc(Br)s1",
    "FC(F)(F)CCl",
    "C",
    "O=c1[nH]cnc2nc[nH]c12",
    "CCOC(=O)c1cnoc1",
    "NC(=O)C[n+]1cc[nH]c1CC([O-])=O",
    "COP(=O)(O)OCC",
    "C12C3C4C1C5C2C3C45",
)
TINY = {"channels": 16, "pair_channels": 8, "triangle_channels": 4, "hidden": 16, "num_layers": 2}


def graph_set(*smiles: str) -> GraphSet:
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(each) for each in smiles])
    return GraphSet(graphs.to(torch.int8), np.arange(len(smiles), dtype=np.uint64))


def tiny(samples: GraphSet, **changes: int) -> GraphModel:
    """With random weights, which make strong preferences, and know no chemistry."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GraphModel(GraphModel.Config(**GraphModel.measure(samples), **{**TINY, **changes}))
    model.fit(samples)
    return model.double().eval()


@pytest.fixture(scope="module")
def model() -> GraphModel:
    return tiny(graph_set(*SMILES))


def drawn(model: GraphModel, requests: list[GraphRequest], steps: int = 4) -> MolecularGraphs:
    *_, last = model.sample(requests, steps)
    return last


def assert_right(graphs: MolecularGraphs) -> None:
    """By RDKit: sanitised, one piece, neutral, without unpaired electrons."""
    for mol in graphs.to_mols():
        assert len(Chem.GetMolFrags(mol)) == 1
        assert Chem.GetFormalCharge(mol) == 0
        assert all(atom.GetNumRadicalElectrons() == 0 for atom in mol.GetAtoms())
        again = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
        assert Chem.MolToSmiles(again) == Chem.MolToSmiles(mol)


def test_draws_of_random_weights_are_molecules(model: GraphModel) -> None:
    """Elements, charges and valences are those of the training set; every valence is used up."""
    graphs = drawn(model, model.requests(range(300)))
    assert_right(graphs)
    assert torch.equal(graphs.bonds, graphs.bonds.mT)
    assert graphs.bonds.diagonal(dim1=1, dim2=2).sum() == 0
    kinds = set(map(tuple, model.kinds.tolist()))
    bonds = graphs.bonds.sum(dim=2), (graphs.bonds > 0).sum(dim=2)
    columns = (graphs.numbers, graphs.charges, graphs.hydrogens, *bonds)
    assert set(map(tuple, torch.stack(columns, dim=2)[graphs.mask].tolist())) <= kinds
    assert {7, 15, 16, 17, 35} <= set(graphs.numbers.flatten().tolist())
    assert graphs.charges.abs().sum() > 0


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_a_graph_depends_on_its_seed_alone(model: GraphModel, steps: int) -> None:
    seeds = [sample_seed(5, i) for i in range(12)]
    together = drawn(model, model.requests(seeds), steps)
    apart = MolecularGraphs.concatenate(
        [drawn(model, model.requests(part), steps) for part in (seeds[:1], seeds[1:8], seeds[8:])]
    )
    assert together.to_mols()[3].GetNumAtoms() > 0
    assert [Chem.MolToSmiles(mol) for mol in together.to_mols()] == [Chem.MolToSmiles(mol) for mol in apart.to_mols()]
    assert torch.equal(together.bonds, apart.bonds)


def test_requests_are_obeyed(model: GraphModel) -> None:
    formula = (8, 6, 7, 6, 6)
    graphs = drawn(model, [GraphRequest(seed, numbers=formula, hydrogens=7) for seed in range(20)])
    assert graphs.numbers.tolist() == [list(formula)] * 20
    assert graphs.hydrogens.sum(dim=1).tolist() == [7] * 20
    assert_right(graphs)
    graphs = drawn(model, [GraphRequest(seed, num_atoms=12) for seed in range(20)])
    assert (graphs.sizes + graphs.hydrogens.sum(dim=1)).tolist() == [12] * 20


@pytest.mark.parametrize("smiles", ["c1ccccc1", "CC(=O)N", "c1cc[nH]c1", "C#CC"])
def test_a_scaffold_keeps_its_bonds(smiles: str) -> None:
    model = tiny(graph_set(*SMILES, "Cc1ccccc1CC(=O)NC", "CCc1cc[nH]c1CO", "CC#CCN", "CC(=O)NCc1ccccc1", "CC#CC=O"))
    scaffold = MolecularGraphs.from_mols([Chem.MolFromSmiles(smiles)])
    graphs = drawn(model, [GraphRequest(seed, scaffold=scaffold) for seed in range(20)])
    held = scaffold.numbers.shape[1]
    assert torch.equal(graphs.bonds[:, :held, :held], scaffold.bonds.expand(20, -1, -1))
    assert (graphs.numbers[:, :held] == scaffold.numbers).all()
    assert (graphs.hydrogens[:, :held] <= scaffold.hydrogens).all()
    assert_right(graphs)


def test_what_cannot_be_connected_is_refused(model: GraphModel) -> None:
    """The scaffold has no hydrogen to give for the rest."""
    scaffold = MolecularGraphs.from_mols([Chem.MolFromSmiles("FC(F)(F)F")])
    with pytest.raises(ValueError, match="scaffold"):
        drawn(model, [GraphRequest(0, numbers=(9, 6, 9, 9, 9, 6, 6), hydrogens=6, scaffold=scaffold)])


def partly_decided(model: GraphModel, graphs: MolecularGraphs) -> torch.Tensor:
    """All subsets of the pairs of one graph hidden: (subsets, nodes, nodes)."""
    orders = pairs.to_list(graphs.bonds)[0]
    shown = torch.tensor(list(itertools.product((False, True), repeat=len(orders))))
    return pairs.to_dense(torch.where(shown, orders, UNDECIDED))


def likelihood_and_bound(model: GraphModel, graphs: MolecularGraphs) -> tuple[float, float]:
    """p(bonds | kinds) as the mean over all orders of the pairs, and its bound, exactly; of one graph.

    With subsets S of what is decided, f(S) = mean over k outside S of p_k(S) f(S + k), and f(all) = 1.
    """
    bonds = partly_decided(model, graphs)
    atoms = Atoms.of(graphs).select(torch.zeros(len(bonds), dtype=torch.long))
    with torch.no_grad():
        logs = model.log_probabilities(atoms, bonds).gather(
            2, pairs.to_list(graphs.bonds).expand(len(bonds), -1)[..., None]
        )
    log_p, count = logs[..., 0].numpy(), bonds.shape[1] * (bonds.shape[1] - 1) // 2
    f, bound = np.ones(len(bonds)), 0.0
    for subset in reversed(range(len(bonds) - 1)):  # supersets have larger numbers
        outside = [k for k in range(count) if not subset >> (count - 1 - k) & 1]
        f[subset] = np.mean([np.exp(log_p[subset, k]) * f[subset | 1 << (count - 1 - k)] for k in outside])
        bound += -log_p[subset, outside].mean() / comb(count, len(outside))
    return float(f[0]), float(bound)


# element, charge, hydrogens, valence and neighbours of C5H10: methylcyclobutanes and ethylcyclopropanes
KINDS = ((6, 0, 3, 1, 1), (6, 0, 2, 2, 2), (6, 0, 2, 2, 2), (6, 0, 2, 2, 2), (6, 0, 1, 3, 3))


def test_the_loss_bounds_the_likelihood_and_draws_follow_it() -> None:
    """All bonds that these atoms can have, with strong random preferences among them."""
    kinds = torch.tensor(KINDS)
    every = torch.from_numpy(molecules(tuple(kinds[:, 3].tolist()), 1))
    assert len(every) == 6
    graphs = MolecularGraphs(*kinds[:, :3].expand(len(every), -1, -1).unbind(dim=2), every)
    model = tiny(GraphSet(graphs.to(torch.int8), np.arange(len(every), dtype=np.uint64)))
    with torch.no_grad():
        model.network.orders.weights[-1].mul_(4)
    exact = [likelihood_and_bound(model, graphs.select([row])) for row in range(len(every))]
    p = np.array([likelihood for likelihood, _ in exact])
    bounds = np.array([bound for _, bound in exact])
    assert p.max() > 1.5 * p.min()
    assert p.sum() <= 1 + 1e-12  # the rest are dead ends
    assert (bounds >= -np.log(p) - 1e-12).all()

    draws = 2000
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        losses = model.loss(graphs.select(torch.arange(len(every)).repeat(draws)), generator)
    losses = losses.unflatten(0, (draws, -1))
    assert (np.abs(losses.mean(dim=0).numpy() - bounds) < 5 * losses.std(dim=0).numpy() / np.sqrt(draws)).all()

    # the order of the atoms is drawn, and does not matter to the network
    made = drawn(model, [GraphRequest(seed, (6,) * 5, 10) for seed in range(1000)], steps=10)
    found, expected = Counter(map(Chem.MolToSmiles, made.to_mols())), dict.fromkeys(("CC1CCC1", "CCC1CC1"), 0.0)
    for mol, share in zip(graphs.to_mols(), p / p.sum(), strict=True):
        expected[Chem.MolToSmiles(mol)] += 1000 * share
    assert set(found) == set(expected)
    assert chisquare([found[smiles] for smiles in expected], list(expected.values())).pvalue > 1e-3


def test_predictions_turn_with_the_order_of_the_atoms(model: GraphModel) -> None:
    graphs = graph_set(*SMILES).batch(np.arange(len(SMILES))).select([1])
    hide = torch.rand(graphs.bonds.shape, generator=torch.Generator().manual_seed(0)).tril(-1)
    hide = (hide + hide.mT > 0.4) & ~torch.eye(hide.shape[1], dtype=torch.bool)
    bonds = torch.where(hide, UNDECIDED, graphs.bonds)
    order = torch.randperm(hide.shape[1], generator=torch.Generator().manual_seed(1))
    turned = MolecularGraphs(
        graphs.numbers[:, order],
        graphs.charges[:, order],
        graphs.hydrogens[:, order],
        graphs.bonds[:, order][:, :, order],
    )
    here = pairs.to_dense(model.log_probabilities(Atoms.of(graphs), bonds).exp())
    there = pairs.to_dense(model.log_probabilities(Atoms.of(turned), bonds[:, order][:, :, order]).exp())
    torch.testing.assert_close(there, here[:, order][:, :, order], rtol=0, atol=1e-12)
    assert here.std() > 0.1


def test_padding_changes_nothing(model: GraphModel) -> None:
    """Of graphs of which nothing is decided."""
    every = graph_set(*SMILES)
    together = every.batch(np.arange(len(SMILES)))

    def predicted(graphs: MolecularGraphs) -> torch.Tensor:
        pair = graphs.mask[:, :, None] & graphs.mask[:, None] & ~torch.eye(graphs.mask.shape[1], dtype=torch.bool)
        return model.log_probabilities(Atoms.of(graphs), torch.where(pair, UNDECIDED, 0))

    padded = predicted(together)
    for row in range(len(SMILES)):
        alone = predicted(every.batch(np.array([row])))
        torch.testing.assert_close(padded[row, : alone.shape[1]], alone[0], rtol=0, atol=1e-12)


def test_a_file_gives_the_same_draws(model: GraphModel, tmp_path: Path) -> None:
    save_generator(model, tmp_path / "tiny.safetensors", {})
    again = load_generator(tmp_path / "tiny.safetensors")
    assert torch.equal(drawn(again, again.requests([3, 4])).bonds, drawn(model, model.requests([3, 4])).bonds)
    assert again.describe() == {
        "elements": ["C", "N", "O", "F", "P", "S", "Cl", "Br"],
        "graphs": len(SMILES),
        "smallest": 1,
        "largest": 13,
    }


def test_a_generator_starts_from_the_network_of_another(model: GraphModel) -> None:
    other = tiny(graph_set(*SMILES, "CCCO"))
    assert other.config.num_sets != model.config.num_sets
    torch.nn.init.zeros_(next(other.parameters()))
    batch = graph_set(*SMILES[:4]).batch(np.arange(4))
    expected = model.loss(batch, torch.Generator().manual_seed(0))
    assert not torch.allclose(other.loss(batch, torch.Generator().manual_seed(0)), expected)
    other.start_from(model)
    torch.testing.assert_close(other.loss(batch, torch.Generator().manual_seed(0)), expected)
    for stranger in (tiny(graph_set("CCO", "CN")), tiny(graph_set(*SMILES), channels=24)):
        with pytest.raises(ValueError, match="the same elements and widths"):
            stranger.start_from(model)


def test_the_validation_set_may_not_have_other_elements() -> None:
    with pytest.raises(ValueError, match="lacks: S; leave"):
        GraphModel.check(graph_set("CC", "CO"), graph_set("CSC"))
