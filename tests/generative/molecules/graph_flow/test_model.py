"""Molecules whose bonds are drawn or given first: what is asked for is obeyed, and the bonds come out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem

from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.model import GraphModel
from atomsml.generative.graphs.set import GraphSet
from atomsml.generative.molecules.compositions import parse_formula
from atomsml.generative.molecules.conformers import smiles_requests
from atomsml.generative.molecules.flow.model import MoleculeFlow, MoleculeFlowConfig, NetworkConfig
from atomsml.generative.molecules.graph_flow.model import GraphFlow, GraphFlowConfig
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.io import atoms_from_smiles, bonds_of_mol, parse_smiles

SMILES = ("CCO", "COC", "CC(N)=O", "c1ccoc1", "C", "C#N", "O=C=O", "C[N+](=O)[O-]", "CC1CO1")
TINY = NetworkConfig(channels=16, pair_channels=16, vectors=4, hidden=32, num_layers=2)
TINY_GRAPHS = {"channels": 16, "pair_channels": 8, "triangle_channels": 4, "hidden": 16, "num_layers": 2}


def training_set() -> MoleculeSet:
    images = [atoms_from_smiles(text) for text in SMILES]
    return MoleculeSet.from_rows(
        [a.numbers for a in images], [a.positions for a in images], [a.info["bonds"] for a in images], {}
    )


@pytest.fixture(scope="module")
def graphs() -> GraphModel:
    drawn = MolecularGraphs.from_mols([parse_smiles(text) for text in SMILES])
    samples = GraphSet(drawn.to(torch.int8), np.arange(len(SMILES), dtype=np.uint64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GraphModel(GraphModel.Config(**GraphModel.measure(samples), **TINY_GRAPHS))
    model.fit(samples)
    return model


@pytest.fixture(scope="module")
def model(graphs: GraphModel) -> GraphFlow:
    molecules = training_set()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        measured = GraphFlow.measure(molecules)
        model = GraphFlow(GraphFlowConfig(**measured, graphs=graphs.config, skeleton=TINY, hydrogens=TINY))
    model.fit(molecules)
    assert model.graphs is not None
    model.graphs.load_state_dict(graphs.state_dict())
    return model.double()


def last(model: GraphFlow, requests: list[Request], **options: object) -> Molecules:
    *_, result = model.sample(requests, **{"steps": 4, **options})  # type: ignore[arg-type]
    return result


def test_molecules_come_with_the_bonds_of_a_sanitised_neutral_graph(model: GraphFlow) -> None:
    for atoms in last(model, draw_requests(model, range(20))).to_ase():
        mol = Chem.RWMol()
        for number, charge in zip(atoms.numbers.tolist(), atoms.get_initial_charges().tolist(), strict=True):
            atom = Chem.Atom(number)
            atom.SetFormalCharge(int(charge))
            atom.SetNoImplicit(True)
            mol.AddAtom(atom)
        kinds = (None, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)
        for i, j, order in atoms.info["bonds"].tolist():
            mol.AddBond(i, j, kinds[order])
        Chem.SanitizeMol(mol)
        assert len(Chem.GetMolFrags(mol)) == 1
        assert Chem.GetFormalCharge(mol) == 0
        assert not any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())


def test_compositions_are_those_of_the_training_set(model: GraphFlow) -> None:
    found = Counter(atoms.get_chemical_formula() for atoms in last(model, draw_requests(model, range(60))).to_ase())
    known = Counter(atoms_from_smiles(text).get_chemical_formula() for text in SMILES)
    assert set(found) <= set(known)
    p = known["C2H6O"] / len(SMILES)
    assert abs(found["C2H6O"] / 60 - p) < 4 * np.sqrt(p * (1 - p) / 60)


def test_formula_and_number_of_atoms_are_obeyed(model: GraphFlow) -> None:
    for formula in (parse_formula("C2H6O"), parse_formula("C3H7NO")):  # the second was never seen
        for atoms in last(model, draw_requests(model, range(5), formula=formula)).to_ase():
            assert Counter(atoms.numbers.tolist()) == Counter(formula)
    for atoms in last(model, draw_requests(model, range(5), num_atoms=9)).to_ase():
        assert len(atoms) == 9


def test_given_bonds_come_back_in_the_order_of_the_smiles(model: GraphFlow) -> None:
    texts = ["CC(=O)Nc1ccco1", "N#CC=O", "C"]
    result = last(model, smiles_requests(model, texts, [1, 2, 3]))
    for text, atoms in zip(texts, result.to_ase(), strict=True):
        mol = parse_smiles(text)
        assert atoms.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        expected = {(min(i, j), max(i, j), order) for i, j, order in bonds_of_mol(mol).tolist()}
        assert {tuple(row) for row in atoms.info["bonds"].tolist()} == expected


def test_bonds_matter_for_the_places(model: GraphFlow) -> None:
    """Of the same atoms in the same order, with the same noise."""
    chain, branched = (last(model, smiles_requests(model, [text], [4])).positions for text in ("CCCO", "CC(C)O"))
    assert not torch.allclose(chain, branched)


@pytest.mark.parametrize("sampler", ["euler", "heun", "ddpm", "predictor-corrector"])
def test_a_seed_gives_the_same_molecule_in_any_company(model: GraphFlow, sampler: str) -> None:
    requests = draw_requests(model, [5, 6, 7, 8])
    together = last(model, requests, sampler=sampler)
    assert together.bonds is not None
    for row, request in enumerate(requests):
        alone = last(model, [request], sampler=sampler)
        size = int(alone.sizes)
        assert size == int(together.sizes[row])
        assert alone.bonds is not None
        assert alone.numbers[0].tolist() == together.numbers[row, :size].tolist()
        assert torch.equal(alone.bonds[0], together.bonds[row, :size, :size])
        torch.testing.assert_close(alone.positions[0], together.positions[row, :size], rtol=0, atol=1e-7)


def test_what_is_drawn_around_a_scaffold_is_what_its_bonds_leave_room_for(model: GraphFlow) -> None:
    """The generator of graphs composes the molecule, not a table of formulas that knows nothing of bonds."""
    places = torch.from_numpy(atoms_from_smiles("CO").positions[:2])
    scaffold = Scaffold((6, 8), places, (3, 1), MolecularGraphs.from_mols([parse_smiles("CO")]))
    requests = draw_requests(model, range(20), scaffold=scaffold)
    assert {request.numbers for request in requests} == {None}
    for atoms in last(model, requests, scaffold=scaffold).to_ase():
        assert atoms.numbers[:2].tolist() == [6, 8]
        assert (0, 1) in {(i, j) for i, j, _ in atoms.info["bonds"].tolist()}  # in a ring it may be aromatic


def test_a_scaffold_keeps_its_places_and_its_bonds(model: GraphFlow) -> None:
    core = atoms_from_smiles("c1ccoc1")
    places = torch.from_numpy(core.positions[:5] + np.array([5.0, 0.0, 0.0]))
    graph = MolecularGraphs.from_mols([parse_smiles("c1ccoc1")])
    scaffold = Scaffold((6, 6, 6, 8, 6), places, (1, 1, 1, 0, 1), graph)
    requests = draw_requests(model, range(4), formula=parse_formula("C6H8O"), scaffold=scaffold)
    result = last(model, requests, scaffold=scaffold)
    ring = {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)}
    for row, atoms in enumerate(result.to_ase()):
        torch.testing.assert_close(result.positions[row, :5], places, rtol=0, atol=1e-12)
        assert {(i, j) for i, j, _ in atoms.info["bonds"].tolist() if j < 5} == ring
    with pytest.raises(ValueError, match="the bonds of the scaffold are not known"):
        last(model, requests, scaffold=Scaffold(scaffold.numbers, places, scaffold.hydrogens))


def test_without_a_generator_of_graphs_only_given_ones_are_placed() -> None:
    molecules = training_set()
    model = GraphFlow(GraphFlowConfig(**GraphFlow.measure(molecules), skeleton=TINY, hydrogens=TINY))
    model.fit(molecules)
    assert len(last(model, smiles_requests(model, ["CCO"], [0]))) == 1
    for call in (lambda: model.requests([0]), lambda: last(model, draw_requests(model, [0]))):
        with pytest.raises(ValueError, match="the model has no generator of graphs"):
            call()


def test_the_loss_falls_and_the_generator_of_graphs_stays_as_it_is(graphs: GraphModel) -> None:
    molecules = training_set()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        measured = GraphFlow.measure(molecules)
        model = GraphFlow(GraphFlowConfig(**measured, graphs=graphs.config, skeleton=TINY, hydrogens=TINY))
    batch = molecules.batch(np.arange(len(molecules)).repeat(8))

    def loss(seed: int) -> torch.Tensor:
        return model.loss(batch, torch.Generator().manual_seed(seed)).mean()

    before = torch.stack([loss(1000 + i) for i in range(8)]).mean().item()
    assert loss(3).item() == loss(3).item() != loss(4).item()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for step in range(60):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    assert torch.stack([loss(1000 + i) for i in range(8)]).mean().item() < 0.5 * before
    assert model.graphs is not None
    assert all(parameter.grad is None for parameter in model.graphs.parameters())


def test_it_is_the_same_after_a_file(model: GraphFlow, tmp_path: Path) -> None:
    save_generator(model, tmp_path / "graph-flow.safetensors", {})
    loaded = load_generator(tmp_path / "graph-flow.safetensors")
    requests = draw_requests(model, [1, 2, 3])
    assert isinstance(loaded, GraphFlow)
    torch.testing.assert_close(last(loaded, requests).positions, last(model, requests).positions)


def test_it_starts_from_a_flow_of_the_same_elements(model: GraphFlow) -> None:
    flow = MoleculeFlow(MoleculeFlowConfig(**MoleculeFlow.measure(training_set()), skeleton=TINY, hydrogens=TINY))
    started = GraphFlow(GraphFlowConfig(flow.config.elements, skeleton=TINY, hydrogens=TINY))
    started.start_from(flow)
    assert torch.equal(started.skeleton.embedding, flow.skeleton.embedding)
    with pytest.raises(ValueError, match="a graph-flow starts from a flow of the same elements"):
        started.start_from(model)


def test_impossible_wishes_are_refused(model: GraphFlow) -> None:
    with pytest.raises(ValueError, match="a molecule of hydrogens alone has no skeleton"):
        last(model, draw_requests(model, [0], formula={1: 2}))
    with pytest.raises(ValueError, match="a graph-flow follows no conditions"):
        GraphFlowConfig((1, 6), conditions=("gap",))
    with pytest.raises(ValueError, match="elements must ascend from 1"):
        GraphFlowConfig((6, 8))
    with pytest.raises(ValueError, match="'adaptive' chooses its steps"):
        last(model, draw_requests(model, [1]), sampler="adaptive")
    assert asdict(model.config)["conditions"] == ()
