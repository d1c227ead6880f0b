"""PaiNN obeys what every potential must, and its representation is that of SchNetPack with the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from atomsml.graph import AtomicGraph
from atomsml.nn.linear import UnitLinear
from atomsml.potentials.painn import PaiNN, PaiNNConfig
from atomsml.testing import PotentialTests, seeded

TINY = PaiNNConfig(elements=(1, 8), channels=8, num_layers=2, num_bessel=4, readout_channels=4)


@pytest.fixture
def potential() -> PaiNN:
    return seeded(PaiNN, TINY)


class TestPaiNN(PotentialTests):
    pass


GOLDEN = Path(__file__).parents[1] / "data" / "painn" / "golden.npz"  # by make_painn_golden.py


def of_schnetpack(arrays: dict[str, torch.Tensor]) -> PaiNN:
    """The potential with SchNetPack's weights, whose thirds are ordered otherwise: (s, vs, vv) and (ss, vv, sv)."""
    config = PaiNNConfig(elements=(1, 6, 8, 29), cutoff=4.0, channels=8, num_layers=2, num_bessel=5)
    potential = PaiNN(config).cast(torch.float64)

    def thirds(weight: torch.Tensor) -> torch.Tensor:
        first, second, third = weight.chunk(3)
        return torch.cat([first, third, second])

    state = potential.state_dict()
    state["embedding"] = arrays["embedding.weight"]
    normalisation = (2 / config.cutoff) ** 0.5  # of our Bessel functions
    for i, filters in enumerate(arrays["filter_net.weight"].chunk(config.num_layers)):
        state[f"messages.{i}.filters.weight"] = thirds(filters) / normalisation
        second, first = arrays[f"mixing.{i}.mu_channel_mix.weight"].chunk(2)
        state[f"updates.{i}.u.weight"], state[f"updates.{i}.v.weight"] = first, second
        for ours, theirs in ((f"messages.{i}.phi", "interactions.{}.inter"), (f"updates.{i}.a", "mixing.{}.intra")):
            for kind in ("weight", "bias"):
                name = f"{theirs.format(i)}atomic_context_net"
                state[f"{ours}.0.{kind}"] = arrays[f"{name}.0.{kind}"]
                state[f"{ours}.2.{kind}"] = thirds(arrays[f"{name}.1.{kind}"])
    for name, linear in potential.named_modules():
        if isinstance(linear, UnitLinear):  # which multiplies by its scale
            state |= {key: state[key] / linear.scale for key in state if key.rpartition(".")[0] == name}
    potential.load_state_dict(state)
    return potential


def systems() -> list[Atoms]:
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1, seed=1)
    return [molecule("CH3CH2OH"), copper]


@pytest.mark.parametrize("number", [0, 1])
def test_scalars_and_vectors_are_those_of_schnetpack(number: int) -> None:
    with np.load(GOLDEN) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file}
    weights = {name.removeprefix("weight/"): value for name, value in arrays.items()}
    potential = of_schnetpack(weights)
    graph = AtomicGraph.from_ase(systems()[number]).with_neighbors(potential.cutoff)
    scalars, vectors = potential.features(potential.nodes(graph), graph)
    for found, name in ((scalars, "scalars"), (vectors, "vectors")):
        wanted = arrays[f"{name}/{number}"]
        # their filters hold frequencies in float32, hence not 1e-12
        torch.testing.assert_close(found[: len(wanted)], wanted, rtol=0, atol=1e-6 * wanted.abs().max().item())
