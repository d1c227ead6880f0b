"""The network of the paper is that of its authors' program, trains, and says how far it is from smooth and equivariant.

The arrays in tests/data/escn were written by fairchem-core 1.10.0 (make_escn_golden.py).
"""

import dataclasses
import functools
import itertools
import subprocess
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from torch import Tensor

from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.nn.edge_frame import EdgeFrames, edge_components, edge_rotation
from atomsml.nn.linear import UnitLinear
from atomsml.potential import evaluate
from atomsml.potentials.escn import ESCN, ESCNConfig
from atomsml.testing import PotentialTests, seeded

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "data" / "escn" / "golden.npz"
SCRIPT = Path(__file__).parent / "make_escn_golden.py"
FAIRCHEM = ROOT / ".venv-fairchem" / "bin" / "python"
ELEMENTS = (1, 6, 8)
SHARED = ESCNConfig(
    elements=ELEMENTS,
    cutoff=4.0,
    channels=4,
    hidden_channels=5,
    radial_mlp=(6,),
    num_gaussians=8,
    gaussian_width=2.0,
    num_sphere_points=20,
    direct_forces=True,
    paper=True,
)
CASES = {
    "reduced orders": {"lmax": 3, "mmax": 2},
    "all orders": {"lmax": 2, "mmax": 2},
    "finer grid": {"lmax": 2, "mmax": 1, "grid_resolution": 10},
}

Golden = dict[str, Tensor]


def read(path: Path) -> Golden:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def of_fairchem(config: ESCNConfig, weights: Golden) -> ESCN:
    """The potential with the weights of fairchem-core's eSCN, all of which it takes."""
    names = {"energy": "energy_block.fc{}", "force": "force_block.fc{}"}  # of three linear maps each
    state: Golden = {"embedding": weights["sphere_embedding.weight"][list(ELEMENTS)]}
    for i in range(config.num_layers):
        theirs, ours = f"layer_blocks.{i}", f"layers.{i}"
        names[f"{ours}.point_wise"] = f"{theirs}.fc{{}}_sphere"
        edge = f"{theirs}.message_block.edge_block"
        state |= unit_linear(f"{ours}.scalars.distance", weights, f"{edge}.fc1_dist")
        state |= unit_linear(f"{ours}.scalars.linear", weights, f"{edge}.fc1_edge_attr")
        ends = [weights[f"{edge}.{which}_embedding.weight"][list(ELEMENTS)] for which in ("source", "target")]
        state[f"{ours}.scalars.embedding"] = torch.stack(ends)
        for which, end in (("of_sender", "source"), ("of_receiver", "target")):
            block = f"{theirs}.message_block.so2_block_{end}"
            state |= so2_convolution(f"{ours}.{which}", weights, block, config.mmax)
    for ours, theirs in names.items():
        for k in range(3):
            state |= unit_linear(f"{ours}.{2 * k}", weights, theirs.format(k + 1))
    potential = ESCN(config).cast(torch.float64)
    assert potential.paper is not None
    potential.paper.load_state_dict(state)
    numbers = sum(each.numel() for each in weights.values())
    unused = (9 - len(ELEMENTS)) * (config.channels + 2 * config.num_layers * config.radial_mlp[0])  # of other elements
    assert sum(each.numel() for each in state.values()) == numbers - unused
    return potential


def so2_convolution(ours: str, weights: Golden, theirs: str, mmax: int) -> Golden:
    state = {}
    for part, name in (("scales", "fc1_dist0"), ("first", "fc1_m0"), ("second", "fc2_m0")):
        state |= unit_linear(f"{ours}.zero.{part}", weights, f"{theirs}.{name}")
    for m in range(mmax):
        order = f"{theirs}.so2_conv.{m}"
        for i, part in enumerate(("real", "imaginary")):
            here = f"{ours}.{part}.{m}"
            state |= unit_linear(f"{here}.first", weights, f"{order}.fc1_{part[0]}")
            state |= unit_linear(f"{here}.second", weights, f"{order}.fc2_{part[0]}")
            both = unit_linear(f"{here}.scales", weights, f"{order}.fc1_dist")
            state |= {name: value.chunk(2)[i] for name, value in both.items()}
    return state


def unit_linear(ours: str, weights: Golden, theirs: str) -> Golden:
    """For a UnitLinear, which divides by the root of its fan in."""
    scale = weights[f"{theirs}.weight"].shape[1] ** 0.5
    kinds = [kind for kind in ("weight", "bias") if f"{theirs}.{kind}" in weights]
    return {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] * scale for kind in kinds}


def assert_agrees(golden: Golden, case: str, structure: str) -> None:
    """Block by block, with their edges in their frames."""
    config = dataclasses.replace(SHARED, **CASES[case])
    prefix = f"{case}/weight/"
    weights = {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    network = of_fairchem(config, weights).paper
    assert network is not None
    given = {name: golden[f"{structure}/{name}"] for name in ("numbers", "positions", "pbc", "cell")}
    graph = AtomicGraph.from_ase(ase.Atoms(**{name: value.numpy() for name, value in given.items()}))
    graph = graph.with_neighbors(config.cutoff).replace(
        edge_index=golden[f"{structure}/edge_index"], cell_offsets=golden[f"{structure}/cell_offsets"]
    )
    nodes = torch.searchsorted(torch.tensor(ELEMENTS), graph.numbers)
    frames = EdgeFrames.from_rotations(golden[f"{structure}/rotations"], config.lmax, config.mmax)
    surroundings = dataclasses.replace(network.surroundings(nodes, graph), frames=frames)

    first = network.layers[0]
    start = torch.nn.functional.pad(network.embedding[nodes][:, None], (0, 0, 0, (config.lmax + 1) ** 2 - 1))
    scalars = first.scalars(surroundings)
    convolved = first.of_sender(frames.rotate_in(start, surroundings.edges.sender), scalars)
    components = edge_components(config.lmax, config.mmax)
    features = network.features(nodes, surroundings)
    found = {
        "scalars": scalars,
        "convolution": convolved[:, [components.index(each) for each in sorted(components)]],
        "message": first.message(start, surroundings),
        "layer": first(start, surroundings),
        "energies": network.energies(features)[:, None],
        "forces": network.forces(features),
    }
    for name, ours in found.items():
        theirs = golden[f"{case}/{structure}/{name}"]
        assert (ours - theirs).abs().max() < 1e-12 * theirs.abs().max(), name
    theirs = 1e3 * golden[f"{case}/{structure}/energy"]  # they multiply it by 0.001
    torch.testing.assert_close(found["energies"].sum(dim=0), theirs, rtol=0, atol=1e-11 * theirs.abs().max().item())


@pytest.mark.parametrize("structure", ["molecule", "crystal"])
@pytest.mark.parametrize("case", CASES)
def test_every_block_is_that_of_fairchem(case: str, structure: str) -> None:
    assert_agrees(read(GOLDEN), case, structure)


@pytest.mark.skipif(not FAIRCHEM.exists(), reason="needs .venv-fairchem: make fairchem")
def test_every_block_is_that_of_fairchem_as_it_is_installed(tmp_path: Path) -> None:
    """With other weights and other frames; it takes as long as importing fairchem."""
    path = tmp_path / "golden.npz"
    subprocess.run([str(FAIRCHEM), str(SCRIPT), str(path), "--seed", "7"], cwd=ROOT, check=True, capture_output=True)
    golden = read(path)
    for case in CASES:
        for structure in ("molecule", "crystal"):
            assert_agrees(golden, case, structure)


@functools.cache
def make(**options: object) -> ESCN:
    """With weights three times as large as they start: features of unit size, where the grids' errors show."""
    small = {"channels": 4, "hidden_channels": 4, "lmax": 2, "mmax": 1, "radial_mlp": (8,), "num_gaussians": 20}
    potential = seeded(ESCN, ESCNConfig(elements=(1, 8), paper=True, **{**small, "num_sphere_points": 64, **options}))
    for module in potential.modules():
        if isinstance(module, UnitLinear):
            module.weight.data *= 3
    return potential


class TestPaper(PotentialTests):
    """With few points, as published: forces turn with the axes by a quarter, energies jump at the cutoff as anywhere.

    Matrices that mix the orders +m and -m make a mirror image another structure, on any grid.
    """

    rotation_error = 0.5
    inversion_error = 0.5
    energy_jump = 2.0
    force_at_cutoff = 1.0

    @pytest.fixture
    def potential(self) -> ESCN:
        return make()


class TestPaperWithDirectForces(TestPaper):
    rotation_error = 1.0
    inversion_error = 3.0
    force_at_cutoff = 3.0

    @pytest.fixture
    def potential(self) -> ESCN:
        return make(direct_forces=True)

    def test_forces_by_finite_differences(self, potential: ESCN) -> None:
        """They are not the gradient of the energy, and say so."""
        crystal = AtomicGraph.from_ase(ase.Atoms("OH", [(0, 0, 0), (1.1, 0.7, 0.2)])).with_neighbors(potential.cutoff)
        forces, by_gradient = (evaluate(each, crystal).forces for each in (potential, make()))
        assert (forces - by_gradient).norm() > 0.1 * forces.norm()
        assert potential.direct_forces


def test_the_more_points_the_more_equivariant() -> None:
    """Both to rotations of the structure and to the roll of the edges' frames, which the authors draw at random."""
    positions = 1.5 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    graph = AtomicGraph.from_ase(ase.Atoms([1, 8] * 3, positions.numpy())).with_neighbors(5.0)
    rotation = edge_rotation(torch.tensor([[0.3, -0.7, 0.5]], dtype=torch.float64))[0]
    errors = []
    for options in (
        {},
        {"grid_resolution": 12, "num_sphere_points": 256},
        {"grid_resolution": 24, "num_sphere_points": 1024},
    ):
        potential = make(**options)
        forces = evaluate(potential, graph).forces
        turned = evaluate(potential, graph.replace(positions=graph.positions @ rotation.T)).forces
        by_rotation = float((turned - forces @ rotation.T).abs().max() / forces.abs().max())
        errors.append((by_rotation, _roll_error(potential, graph)))
    for few, more in itertools.pairwise(errors):
        assert more[0] < 0.2 * few[0], errors
        assert more[1] < 0.2 * few[1], errors
    assert errors[-1][0] < 5e-3
    assert errors[-1][1] < 1e-5


def _roll_error(potential: ESCN, graph: NeighborGraph) -> float:
    """By how much energies change with the rolls of all frames, relative to the largest."""
    network, nodes = potential.paper, potential.nodes(graph)
    assert network is not None
    surroundings = network.surroundings(nodes, graph)
    angles = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 * torch.pi
    zero, one = torch.zeros_like(angles), torch.ones_like(angles)
    rows = [(angles.cos(), zero, angles.sin()), (zero, one, zero), (-angles.sin(), zero, angles.cos())]
    rolls = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # about the polar axis y
    rolled = EdgeFrames.from_rotations(
        rolls @ edge_rotation(graph.edge_vectors()), potential.config.lmax, potential.config.mmax
    )
    before, after = (
        network.energies(network.features(nodes, each))
        for each in (surroundings, dataclasses.replace(surroundings, frames=rolled))
    )
    return float(((after - before).abs().max() / before.abs().max()).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paper": True, "num_bessel": 4}, "num_bessel is not read with paper true; leave it out"),
        ({"paper": True, "parity": False}, "parity is not read with paper true; leave it out"),
        ({"num_sphere_points": 64}, "num_sphere_points is not read with paper false; leave it out"),
        ({"grid_resolution": 20}, "grid_resolution is not read with paper false; leave it out"),
        ({"paper": True, "radial_mlp": (8, 8)}, "with paper radial_mlp is one width"),
        ({"paper": True, "grid_resolution": 6}, r"grid_resolution must be at least 2 lmax \+ 1 = 7"),
        ({"paper": True, "num_gaussians": 1}, "num_gaussians must lie between 2 and 8192, got 1"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ESCNConfig(elements=(1, 8), **options)


def test_the_size_of_the_paper_is_that_of_its_experiments() -> None:
    config = ESCNConfig(elements=(1, 8), **ESCN.sizes["paper"])
    assert (config.lmax, config.mmax, config.num_layers) == (6, 2, 12)
    assert config.num_gaussians == int(config.cutoff / 0.02)  # as their program counts
