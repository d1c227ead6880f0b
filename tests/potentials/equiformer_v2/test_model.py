"""EquiformerV2 obeys what every potential must, and is what its paper says but for what it says itself."""

import copy
import functools
import json
import math

import ase
import ase.build
import pytest
import torch
from e3nn import o3
from safetensors.torch import load_file, save_file
from scipy.integrate import lebedev_rule
from torch import Tensor

from atomsml import AtomsMLCalculator, modelfile
from atomsml.graph import AtomicGraph
from atomsml.nn.edge_frame import EdgeFrames, edge_components, edge_rotation
from atomsml.o3 import spherical_harmonics, wigner_d
from atomsml.o3.s2_grid import all_components
from atomsml.ops.activation import SILU_GAIN
from atomsml.ops.convolution import Edges
from atomsml.potential import evaluate
from atomsml.potentials.equiformer_v2 import EquiformerV2, EquiformerV2Config
from atomsml.potentials.equiformer_v2.model import (
    EPSILON,
    Attention,
    NeighborEmbedding,
    attention_weights,
    s2_activation,
    smooth_leaky_relu,
)
from atomsml.testing import PotentialTests, assert_ase_contract, seeded

TINY = EquiformerV2Config(
    elements=(1, 8),
    channels=4,
    lmax=2,
    mmax=1,
    num_layers=2,
    num_heads=2,
    attention_channels=6,
    ffn_channels=5,
    num_bessel=4,
    radial_mlp=(8,),
    readout_channels=4,
    avg_num_neighbors=8.0,
    scale=0.8,
)


@functools.cache
def make(config: EquiformerV2Config) -> EquiformerV2:
    return seeded(EquiformerV2, config)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestEquiformerV2(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(TINY)


def test_ase_contract():
    assert_ase_contract(AtomsMLCalculator(make(TINY), device="cpu"), ("O", "H"))


def hydroxyls() -> AtomicGraph:
    """The hydrogen and oxygen of ethanol, off the axes."""
    atoms = ase.build.molecule("CH3CH2OH")
    atoms = atoms[[atom.index for atom in atoms if atom.symbol != "C"]]
    atoms.rattle(0.1, seed=1)
    return AtomicGraph.from_ase(atoms)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equivariance(dtype, tolerance):
    potential = copy.deepcopy(make(TINY)).cast(dtype)
    potential.references.zero_()
    graph = hydroxyls().to(dtype=dtype)
    for seed in range(3):
        rotation = edge_rotation(random(1, 3, seed=seed))[0].to(dtype) * (-1) ** seed  # every second one a mirror too
        before = evaluate(potential, graph)
        after = evaluate(potential, graph.replace(positions=graph.positions @ rotation.T))
        energy_scale, force_scale = before.atom_energies.abs().sum(), before.forces.abs().max()
        assert (after.energy - before.energy).abs() < tolerance * energy_scale
        assert (after.forces - before.forces @ rotation.T).abs().max() < tolerance * force_scale


@pytest.mark.parametrize("where", [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [1.0, 1.0, 0.3], [1.0, -1.0, 1.0]])
def test_smooth_at_the_poles_of_the_frames(where):
    """A neighbour passes along y, or where the roll of its frame jumps: forces and Hessian by finite differences."""
    potential = make(TINY)
    graph = hydroxyls()
    start = torch.tensor(where, dtype=torch.float64)
    graph.positions[0] = graph.positions[-1] + 1.1 * start / start.norm()
    graph = graph.with_neighbors(potential.cutoff)

    def energy(positions: Tensor) -> Tensor:
        return potential(graph.replace(positions=positions)).sum()

    def gradient(positions: Tensor, create_graph: bool = False) -> Tensor:
        leaf = positions.detach().requires_grad_() if not create_graph else positions
        return torch.autograd.grad(energy(leaf), leaf, create_graph=create_graph)[0]

    positions = graph.positions.clone().requires_grad_()
    first = gradient(positions, create_graph=True)
    step = 2e-5
    for axis in range(3):
        move = torch.zeros_like(positions)
        move[0, axis] = step
        slope = (energy(graph.positions + move) - energy(graph.positions - move)) / (2 * step)
        torch.testing.assert_close(first[0, axis], slope, rtol=0, atol=1e-6 * first.abs().max().item())
        (row,) = torch.autograd.grad(first[0, axis], positions, retain_graph=True)
        bend = (gradient(graph.positions + move) - gradient(graph.positions - move)) / (2 * step)
        torch.testing.assert_close(row, bend, rtol=0, atol=1e-5 * row.abs().max().item())


def test_the_last_neighbour_leaves_like_the_envelope():
    """Near the cutoff a dimer's energy goes with the third power of what is left; with it two derivatives vanish."""
    potential = copy.deepcopy(make(TINY))
    potential.references.zero_()

    def energy(left: float) -> float:
        positions = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.48, 0.64]]) * potential.cutoff * (1 - left)
        return evaluate(potential, AtomicGraph.from_ase(ase.Atoms("OH", positions.numpy()))).energy.item()

    assert energy(2e-3) / energy(1e-3) == pytest.approx(8, rel=0.02)
    assert energy(1e-4) != 0 == energy(-1e-4)


def test_attention_is_a_softmax_with_one():
    logits, envelope = random(7, 2), random(7).sigmoid()
    receiver = torch.tensor([0, 0, 0, 2, 2, 3, 3])  # atom 1 has no neighbour
    found = attention_weights(logits, envelope, receiver, 4)
    for node in range(4):
        mine = receiver == node
        # a neighbour enters with its logit + log(envelope), nobody with the logit 0
        padded = torch.cat([torch.zeros(1, 2).double(), logits[mine] + envelope[mine, None].log()])
        torch.testing.assert_close(found[mine], padded.softmax(dim=0)[1:])


def test_attention_to_large_logits_is_finite():
    logits = torch.tensor([[500.0], [498.0], [-500.0]])
    found = attention_weights(logits, torch.ones(3), torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(found, torch.tensor([[1.0], [math.exp(-2)], [0.0]]) / torch.tensor([[1 + math.exp(-2)]]))


def test_smooth_leaky_relu():
    """Equation of Equiformer (arXiv:2206.11990, appendix C.1 of V1): slopes 0.2 and 1, joined by a sigmoid."""
    x = torch.linspace(-60, 60, 241, dtype=torch.float64)
    expected = 0.6 * x + 0.4 * x * (2 * torch.sigmoid(x) - 1)
    torch.testing.assert_close(smooth_leaky_relu(x), expected)


def f_plus_square(features: Tensor, lmax: int, rows: list[int]) -> Tensor:
    """P(f + f^2), with the components `rows` alone, by a quadrature of Lebedev's."""
    points, weights = lebedev_rule(3 * lmax + (3 * lmax + 1) % 2)
    values = spherical_harmonics(lmax, torch.from_numpy(points.T.copy()))[:, rows]
    on_points = torch.einsum("pk,nkc->npc", values, features)
    share = torch.from_numpy(weights) / (4 * math.pi)
    # the unit of values on the grid is K = sqrt(number of components): see grid_product
    total = on_points + on_points**2 / math.sqrt(len(rows))
    return torch.einsum("p,pk,npc->nkc", share, values, total)


@pytest.mark.parametrize("components", [all_components(2), edge_components(3, 2)], ids=["all", "edge"])
def test_s2_activation(components):
    features = random(3, len(components), 2)
    rows = [l * l + l + m for l, m in components]
    expected = f_plus_square(features, max(l for l, _ in components), rows)
    expected[:, 0] += SILU_GAIN * torch.nn.functional.silu(features[:, 0])
    torch.testing.assert_close(s2_activation(features, components), expected, rtol=0, atol=1e-12)


def star(num_neighbors: int) -> tuple[Edges, Tensor]:
    """Edges from atoms 1, 2, ... to atom 0, and their vectors, among which are the poles."""
    vectors = torch.cat([torch.tensor([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0]]).double(), random(num_neighbors - 2, 3)])
    index = torch.stack([torch.arange(1, num_neighbors + 1), torch.zeros(num_neighbors, dtype=torch.int64)])
    return Edges.from_index(index, num_neighbors + 1), vectors


def test_neighbour_embedding_is_rotated_out_of_edge_frames():
    torch.manual_seed(0)
    embedding = NeighborEmbedding(TINY).double()
    edges, vectors = star(5)
    scalars, basis = random(6, 1, TINY.channels), random(5, TINY.num_bessel)
    found = embedding(scalars, spherical_harmonics(TINY.lmax, vectors), basis, edges)
    frames = EdgeFrames.from_vectors(vectors, TINY.lmax, TINY.mmax)
    messages = torch.zeros(5, len(frames.components), TINY.channels, dtype=torch.float64)
    radial = embedding.radial(basis).view(5, TINY.lmax + 1, TINY.channels)
    size = torch.tensor([math.sqrt(2 * l + 1) for l in range(TINY.lmax + 1)])[:, None]
    messages[:, : TINY.lmax + 1] = radial * size * scalars[edges.sender] / TINY.avg_num_neighbors
    torch.testing.assert_close(found, frames.rotate_out(messages, edges.receiver, 6))


def test_attention_written_out():
    """One edge after the other, in frames of another roll, with e3nn's rotations, dense matrices and a softmax."""
    torch.manual_seed(0)
    module, config = Attention(TINY).double(), TINY
    edges, vectors = star(4)
    features, basis = random(5, 9, config.channels, seed=3), random(4, config.num_bessel, seed=4)
    envelope = random(4, seed=5).sigmoid()
    frames = EdgeFrames.from_vectors(vectors, config.lmax, config.mmax)
    found = module(features, frames, basis, envelope, edges)

    rows = [l * l + l + m for l, m in frames.components]
    degrees = [l for l in range(config.lmax + 1) for _ in range(2 * l + 1)]
    values, logits = [], []
    for e in range(4):
        roll = o3.axis_angle_to_matrix(torch.tensor([0.0, 1.0, 0.0]).double(), torch.tensor(0.7 + e).double())
        rotation = roll @ edge_rotation(vectors)[e]
        d = torch.block_diag(*[wigner_d(l, rotation) for l in range(config.lmax + 1)])
        ends = [
            torch.stack(
                [(x @ module.ends.weights[l]).chunk(2)[end] for x, l in zip(features[atom], degrees, strict=True)]
            )
            for end, atom in ((0, 1 + e), (1, 0))
        ]
        turned = (d @ (ends[0] + ends[1]) / math.sqrt(2 * config.channels))[rows]
        scales = module.radial(torch.cat([basis[e], torch.ones(1)])[None]).view(-1, config.attention_channels)
        order = [(l, m) for m in range(config.mmax + 1) for l in range(m, config.lmax + 1)]
        scaled = torch.stack(
            [x * scales[order.index((l, abs(m)))] for x, (l, m) in zip(turned, frames.components, strict=True)]
        )
        f = so2(module.first, scaled, config)
        s = f[0]
        normed = (s - s.mean()) / (s.var(correction=0) + EPSILON).sqrt()
        logits.append(smooth_leaky_relu(normed) @ module.logits / math.sqrt(config.attention_channels))
        active = f_plus_square(f[None], config.lmax, rows)[0]
        active[0] += SILU_GAIN * torch.nn.functional.silu(s)
        value = torch.zeros(9, config.attention_channels, dtype=torch.float64)
        value[rows] = so2(module.second, active, config)
        values.append(d.T @ value)
    attention = torch.cat([torch.zeros(1, 2), torch.stack(logits) + envelope[:, None].log()]).softmax(dim=0)[1:]
    per_channel = attention.repeat_interleave(config.attention_channels // config.num_heads, dim=1)
    summed = (torch.stack(values) * per_channel[:, None]).sum(dim=0)
    expected = torch.stack([x @ module.out.weights[l] for x, l in zip(summed, degrees, strict=True)])
    torch.testing.assert_close(found[0], expected / math.sqrt(config.attention_channels), rtol=0, atol=1e-12)
    assert not found[1:].any()  # who has no neighbour hears nothing


def so2(linear, x: Tensor, config: EquiformerV2Config) -> Tensor:
    """SO2Linear on one edge, by rows: those of one order m are mixed by one matrix."""
    out, start = torch.zeros_like(x), 0
    for m in [0, *(m for m in range(1, config.mmax + 1) for _ in "+-")]:
        n, weight = config.lmax + 1 - m, linear.real[m]
        out[start : start + n] = (x[start : start + n].flatten() @ weight / math.sqrt(len(weight))).view(n, -1)
        start += n
    return out


@pytest.mark.parametrize(
    ("absurd", "said"),
    [
        ({"lmax": 60}, "lmax must be at most"),
        ({"mmax": 3}, r"mmax must lie in 0\.\.lmax = 2, got 3"),
        ({"num_heads": 4}, "attention_channels must be a multiple of num_heads = 4, got 6"),
        ({"num_layers": 10**6}, "num_layers must be at most"),
        ({"channels": 10**9}, "channels must lie between 1 and 8192"),
        ({"channels": 8192, "ffn_channels": 8192}, "far larger than its file|asks for"),
    ],
    ids=str,
)
def test_a_hostile_file_is_refused_at_once(absurd, said, tmp_path):
    path = tmp_path / "hostile.safetensors"
    modelfile.save(make(TINY), path, {})
    description = modelfile.read_metadata(path)
    description["config"] |= absurd
    save_file(load_file(path), path, metadata={"atomsml": json.dumps(description)})
    with pytest.raises(ValueError, match=said):
        modelfile.load(path)
