"""eSCN obeys what every potential must, is smooth where its frames jump, and is the tensor product that it replaces."""

import copy
import functools
import itertools
import json
import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from atomsml import AtomsMLCalculator
from atomsml.graph import AtomicGraph
from atomsml.modelfile import load, save
from atomsml.nn.edge_frame import edge_rotation
from atomsml.nn.so2 import SO2Linear
from atomsml.o3 import clebsch_gordan, spherical_harmonics
from atomsml.pair_geometry import PairGeometry
from atomsml.potential import Prediction, evaluate
from atomsml.potentials.escn import ESCN, ESCNConfig
from atomsml.radial.bases import bessel_basis
from atomsml.testing import PotentialTests, assert_ase_contract, seeded

TINY = {
    "elements": (1, 8),
    "channels": 4,
    "hidden_channels": 3,
    "lmax": 2,
    "mmax": 1,
    "num_bessel": 4,
    "radial_mlp": (8,),
    "readout_channels": 4,
    "avg_num_neighbors": 4.0,
    "unit_basis": True,
}


@functools.cache
def make(**options: object) -> ESCN:
    return seeded(ESCN, ESCNConfig(**{**TINY, **options}))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cluster(positions: Tensor) -> AtomicGraph:
    """H and O in turn."""
    numbers = [(1, 8)[i % 2] for i in range(len(positions))]
    graph = AtomicGraph.from_ase(Atoms(numbers, positions.numpy())).with_neighbors(5.0)
    return graph.replace(positions=positions)


class TestESCN(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(scale=0.8)


class TestESCNDirectForces(PotentialTests):
    """Energy and stress as ever; the forces are no gradient."""

    @pytest.fixture
    def potential(self):
        return make(direct_forces=True)

    def test_forces_by_finite_differences(self, potential):
        """They are not the gradient of the energy, and say so; no part of a system pushes itself."""
        near = random(4, 3) * 1.5
        graph = cluster(torch.cat([near, near.flip(1) + 50]))
        forces = evaluate(potential, graph).forces
        by_gradient = evaluate(make(), graph).forces
        assert (forces - by_gradient).norm() > 0.1 * forces.norm()
        assert potential.direct_forces
        assert not make().direct_forces
        torch.testing.assert_close(forces.unflatten(0, (2, 4)).sum(dim=1), torch.zeros(2, 3).double())


@pytest.mark.parametrize("options", [{}, {"parity": False}, {"direct_forces": True}], ids=str)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_equivariance(options, dtype, allowed):
    potential, positions = copy.deepcopy(make(**options)).cast(dtype), 1.5 * random(6, 3)
    references = potential.references[[0, 1, 0, 1, 0, 1]]
    before = evaluate(potential, cluster(positions))
    for rotation in edge_rotation(random(4, 3, seed=1)):
        after = evaluate(potential, cluster(positions @ rotation.T))
        energies, turned = before.atom_energies - references, before.forces @ rotation.T
        assert (after.atom_energies - references - energies).abs().max() < allowed * energies.abs().max()
        assert (after.forces - turned).abs().max() < allowed * turned.abs().max()


def test_without_parity_a_mirror_image_differs():
    """With it, it does not: TestESCN.test_inversion."""
    positions = 1.5 * random(6, 3)
    energies = [evaluate(make(parity=False), cluster(sign * positions)).energy for sign in (1, -1)]
    assert (energies[0] - energies[1]).abs() > 1e-3


@pytest.mark.parametrize("where", [[0, 1, 0], [0, -1, 0], [1, 0, 0], [1, 1, 0.3], [1, 1, 1]], ids=str)
def test_smooth_where_frames_jump(where):
    """An atom passes the poles of the edge to another, and directions where the roll of the frame changes its axis."""
    potential = make(parity=False)
    direction = torch.tensor(where, dtype=torch.float64)
    start = torch.cat([torch.zeros(1, 3).double(), 1.4 * direction[None] / direction.norm(), 1.5 * random(3, 3)])

    def prediction(move: Tensor) -> Prediction:
        return evaluate(potential, cluster(start).replace(positions=start + move))

    def gradient(positions: Tensor) -> Tensor:
        energies = potential(cluster(start).replace(positions=positions))
        return torch.autograd.grad(energies.sum(), positions, create_graph=True)[0][1]

    step = 3e-5
    moves = torch.zeros(3, *start.shape, dtype=torch.float64)
    moves[:, 1] = step * torch.eye(3)
    around = [(prediction(move), prediction(-move)) for move in moves]
    forces = prediction(torch.zeros_like(start)).forces
    slopes = torch.cat([(high.energy - low.energy) / (2 * step) for high, low in around])
    torch.testing.assert_close(-forces[1], slopes, rtol=0, atol=1e-6 * forces.abs().max().item())
    bends = torch.stack([(low.forces - high.forces) / (2 * step) for high, low in around])
    hessian = torch.autograd.functional.jacobian(gradient, start)
    torch.testing.assert_close(hessian, bends, rtol=0, atol=1e-6 * hessian.abs().max().item())


@pytest.mark.parametrize("parity", [True, False])
def test_a_linear_message_is_a_full_tensor_product(parity):
    """Where features vanish gates are 1, so that the derivative there is linear: a sum over all paths (l1, l2, l3)."""
    lmax = 2
    potential = copy.deepcopy(make(lmax=lmax, mmax=lmax, channels=1, hidden_channels=1, parity=parity))
    layer, graph, x = potential.layers[0], cluster(1.5 * random(5, 3)), random(7, (lmax + 1) ** 2, 1, seed=1)
    nodes = potential.nodes(graph)
    surroundings = potential.surroundings(nodes, graph)
    paths = [
        (l1, l2, l3)
        for l1, l2, l3 in itertools.product(range(lmax + 1), range(2 * lmax + 1), range(lmax + 1))
        if abs(l1 - l2) <= l3 <= l1 + l2 and not (parity and (l1 + l2 + l3) % 2)
    ]
    path_weights = dict(zip(paths, random(len(paths), seed=2), strict=True))
    with torch.no_grad():
        layer.mix.copy_(torch.tensor([[1.0, 0.0]]))  # of the sender alone
        list(layer.radial.parameters())[-1][:] = 1.0  # the same radial function for all l and m
        set_paths(layer.first, path_weights)
        set_identity(layer.second)
    _, message = torch.autograd.functional.jvp(lambda x: layer.message(x, surroundings), torch.zeros_like(x), x)

    sender, receiver = graph.edge_index
    radial = layer.radial(surroundings)[surroundings.edges.weight_row, 0]
    harmonics = spherical_harmonics(2 * lmax, graph.edge_vectors())
    expected = torch.zeros_like(x)
    for (l1, l2, l3), weight in path_weights.items():
        operands = x[sender, l1 * l1 : (l1 + 1) ** 2, 0], harmonics[:, l2 * l2 : (l2 + 1) ** 2]
        product = torch.einsum("ei,ej,ijk,e->ek", *operands, clebsch_gordan(l1, l2, l3), weight * radial)
        expected[:, l3 * l3 : (l3 + 1) ** 2, 0].index_add_(0, receiver, product)
    torch.testing.assert_close(message, expected / potential.config.avg_num_neighbors, rtol=0, atol=1e-12)


def set_paths(layer: SO2Linear, path_weights: dict[tuple[int, int, int], Tensor]) -> None:
    """Matrices of the product with the harmonics of the polar axis y, of which only m = 0 is not zero."""
    for matrix in layer.parameters():
        matrix.zero_()
    for (l1, l2, l3), weight in path_weights.items():
        along = math.sqrt(2 * l2 + 1) * weight * clebsch_gordan(l1, l2, l3)[:, l2]
        for m in range(min(l1, l3) + 1):
            complex_too = m > 0 and len(layer.imaginary) > 0
            scale = math.sqrt(len(layer.real[m]) * (2 if complex_too else 1))
            layer.real[m][l1 - m, l3 - m] += scale * along[l1 + m, l3 + m]
            if complex_too:
                layer.imaginary[m - 1][l1 - m, l3 - m] += scale * along[l1 + m, l3 - m]


def set_identity(layer: SO2Linear) -> None:
    for matrix in layer.parameters():
        matrix.zero_()
    for m, matrix in enumerate(layer.real):
        complex_too = m > 0 and len(layer.imaginary) > 0
        matrix.fill_diagonal_(math.sqrt(len(matrix) * (2 if complex_too else 1)))


def test_direct_forces_are_trained_and_computed():
    """Their head learns from forces, and the calculator returns what it says."""
    potential = copy.deepcopy(make(direct_forces=True))
    graph = cluster(1.5 * random(5, 3))
    wanted = random(5, 3, seed=3)
    wanted -= wanted.mean(dim=0)
    optimizer = torch.optim.Adam(potential.parameters(), lr=0.03)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (evaluate(potential, graph, create_graph=True).forces - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    atoms = Atoms([1, 8, 1, 8, 1], graph.positions.numpy())
    atoms.calc = AtomsMLCalculator(potential, device="cpu", precision="float64")
    np.testing.assert_allclose(atoms.get_forces(), evaluate(potential, graph).forces.numpy(), rtol=0, atol=1e-10)


def test_bessel_functions_have_unit_mean_square_in_the_sphere():
    """Distances r of equal spacing, weighted by the volume of their shells: sums of sin(n pi r / rc)^2 are exact."""
    distances = torch.arange(1, 50, dtype=torch.float64) * (5.0 / 50)
    dimers = [Atoms("HO", [(0, 0, 0), (0, 0, r)]) for r in distances.tolist()]
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in dimers]).with_neighbors(5.0)
    potential = make()
    surroundings = potential.surroundings(potential.nodes(graph), graph)
    shells = 3 * distances.square() * (5.0 / 50) / 5.0**3
    torch.testing.assert_close(
        shells @ surroundings.basis.square(), torch.ones(TINY["num_bessel"], dtype=torch.float64)
    )


def test_the_distance_matters_in_a_metal_from_the_start():
    """Of what the radial network of random weights makes of the pairs of an alloy, the distance explains its part."""
    alloy = bulk("Mo", cubic=True, a=3.15).repeat(3)
    alloy.numbers[::2] = 74
    alloy.rattle(0.1, seed=0)
    graph = AtomicGraph.from_ase(alloy).with_neighbors(5.0)
    explained = {}
    for unit_basis in (True, False):
        options = {"num_bessel": 8, "radial_mlp": (32,), "avg_num_neighbors": 28.0, "unit_basis": unit_basis}
        potential = make(elements=(42, 74), **options)
        surroundings = potential.surroundings(potential.nodes(graph), graph)
        scales = potential.layers[0].radial(surroundings) / surroundings.envelope[:, None]
        kinds = surroundings.species.sum(dim=0)  # Mo-Mo, Mo-W, W-W
        within = sum((kinds == k).float().mean() * scales[kinds == k].var(dim=0, correction=0) for k in range(3))
        explained[unit_basis] = float((within.sum() / scales.var(dim=0, correction=0).sum()).detach())
    assert explained[True] > 0.25
    assert explained[False] < 0.05


def test_files_that_do_not_know_the_unit_basis_keep_their_meaning(tmp_path):
    """As those of version 0.1: their radial networks get the functions themselves, which end at the cutoff."""
    old = make(unit_basis=False)
    save(old, tmp_path / "new.safetensors", {})
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    [(key, description)] = [(k, json.loads(v)) for k, v in metadata.items() if "unit_basis" in v]
    del description["config"]["unit_basis"]
    save_file(tensors, tmp_path / "old.safetensors", metadata | {key: json.dumps(description)})
    graph = cluster(1.5 * random(5, 3))
    torch.testing.assert_close(
        evaluate(load(tmp_path / "old.safetensors"), graph).energy, evaluate(old, graph).energy, rtol=0, atol=0
    )
    assert not torch.allclose(evaluate(old, graph).energy, evaluate(make(), graph).energy)
    potential = load(tmp_path / "old.safetensors")
    surroundings = potential.surroundings(potential.nodes(graph), graph)
    expected = bessel_basis(PairGeometry.from_graph(graph, torch.float64, 5).lengths, 5.0, 4)
    torch.testing.assert_close(surroundings.basis, expected * surroundings.envelope[:, None])


def test_ase_contract():
    """Weights are for as many neighbours as atoms have there: for four, energies would bend too much for its steps."""
    assert_ase_contract(AtomsMLCalculator(make(avg_num_neighbors=40.0), device="cpu"), ("O", "H"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mmax": 3}, r"mmax must lie in 0\.\.lmax = 2, got 3"),
        ({"lmax": 0, "mmax": 0, "direct_forces": True}, "give lmax >= 1"),
        ({"lmax": 40}, "lmax must be at most 8, got 40"),
        ({"hidden_channels": 0}, "hidden_channels must be positive"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ESCNConfig(**{**TINY, **options})
