"""The loss of the flow, molecule by molecule, against the equation at the head of flow/model.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.special import logsumexp
from scipy.stats import chi2, kstest

from atomsml.generative.molecules.flow.model import MoleculeFlow, MoleculeFlowConfig, NetworkConfig
from atomsml.generative.molecules.set import MoleculeSet

UNIT = 1.3  # Angstrom
TINY = NetworkConfig(channels=8, pair_channels=8, vectors=2, hidden=8, num_layers=1)
SAMPLES = 400
IMAGES = [molecule("CH3CONH2"), molecule("CH3CH2OH")]


class Seen(NamedTuple):
    """What a network was asked in the step that counts, and what it said."""

    known: np.ndarray  # (samples, nodes)
    noisy: np.ndarray  # (samples, nodes, 3), in UNIT
    time: np.ndarray  # (samples,)
    positions: np.ndarray  # (samples, nodes, 3), in UNIT
    logits: np.ndarray  # (samples, nodes, nodes, bonds)


class Setting(NamedTuple):
    losses: np.ndarray  # (samples,)
    skeleton: Seen
    hydrogens: Seen


def bonds_of(atoms: Atoms) -> np.ndarray:
    """Single ones, but for one of each molecule, so that kinds matter."""
    distances = atoms.get_all_distances()
    rows = [(i, j, 1) for i, j in zip(*np.where(distances < 1.65), strict=True) if i < j]
    return np.array([(*rows[0][:2], 2), *rows[1:]])


@pytest.fixture(scope="module")
def setting() -> Setting:
    images = [IMAGES[i % 2] for i in range(SAMPLES)]
    numbers, positions = [a.numbers for a in images], [a.positions for a in images]
    molecules = MoleculeSet.from_rows(numbers, positions, [bonds_of(a) for a in images], {})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        measured = MoleculeFlow.measure(molecules)
        model = MoleculeFlow(MoleculeFlowConfig(**measured, skeleton=TINY, hydrogens=TINY)).double()
    seen: dict[str, Seen] = {}

    def remember(name: str) -> Any:
        def hook(_: torch.nn.Module, asked: Any, said: Any) -> None:  # a guess comes before, and is overwritten
            tensors = asked[0].known, asked[1], asked[2], said.positions, said.bonds
            seen[name] = Seen(*(tensor.detach().numpy() for tensor in tensors))

        return hook

    model.skeleton.register_forward_hook(remember("skeleton"))
    model.hydrogens.register_forward_hook(remember("hydrogens"))
    batch = molecules.batch(np.arange(SAMPLES))
    losses = model.loss(batch.replace(positions=batch.positions.double()), torch.Generator().manual_seed(0))
    return Setting(losses.detach().numpy(), **seen)


def reordered(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and positions in UNIT, heavy atoms first, and (atoms, atoms) kinds of bonds."""
    order = np.argsort(atoms.numbers == 1, kind="stable")
    kinds = np.zeros((len(atoms), len(atoms)), int)
    for i, j, kind in bonds_of(atoms):
        kinds[i, j] = kinds[j, i] = kind
    return atoms.positions[order] / UNIT, kinds[np.ix_(order, order)]


def clean(atoms: Atoms, known: np.ndarray, nodes: int) -> np.ndarray:
    """(nodes, 3) x_0, from the centre of what is known, or of all where nothing is."""
    positions = reordered(atoms)[0][:nodes]
    return positions - (positions[known] if known.any() else positions).mean(axis=0)


def free(known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Of the atoms that are placed; where nothing is known, without their mean."""
    return vectors[~known] - (0 if known.any() else vectors.mean(axis=0))


def expected(atoms: Atoms, seen: Seen, row: int, nodes: int, with_bonds: bool) -> float:
    """0.3 |x - x_0|^2 / (t^2 + 0.04^2) + error of near distances, Angstrom + 0.2 cross entropy, each a mean."""
    known, t = seen.known[row, :nodes], seen.time[row]
    data, found = clean(atoms, known, nodes), seen.positions[row, :nodes]
    loss = 0.3 * np.mean(free(known, found - data) ** 2) / (t**2 + 0.04**2)
    kinds, near, entropies = reordered(atoms)[1], [], []
    for i in range(nodes):
        for j in range(nodes):
            if i == j or (known[i] and known[j]):
                continue
            true, guessed = (UNIT * np.sqrt(np.sum((x[i] - x[j]) ** 2) + 1e-6) for x in (data, found))
            if true < 2.8:
                error = abs(true - guessed)
                near.append(error**2 / 0.04 if error < 0.02 else error - 0.01)
            logits = seen.logits[row, i, j]
            entropies.append(logsumexp(logits) - logits[kinds[i, j]])
    return loss + np.mean(near) + (0.2 * np.mean(entropies) if with_bonds else 0.0)


def test_every_loss_is_that_of_the_equation(setting: Setting) -> None:
    """The hydrogens of every fourth molecule, which are all of one kind, count by their mean.

    A set keeps positions in float32, whose rounding is 1e-7 of them.
    """
    count = SAMPLES // 4
    hydrogens = np.mean([expected(IMAGES[0], setting.hydrogens, row, len(IMAGES[0]), False) for row in range(count)])
    assert len(setting.hydrogens.time) == count
    heavy = [int((atoms.numbers > 1).sum()) for atoms in IMAGES]
    for row, loss in enumerate(setting.losses):
        skeleton = expected(IMAGES[row % 2], setting.skeleton, row, heavy[row % 2], True)
        assert loss == pytest.approx(skeleton + hydrogens, rel=1e-6)


def test_a_tenth_of_the_skeletons_have_known_atoms(setting: Setting) -> None:
    known = setting.skeleton.known.any(axis=1).sum()
    assert abs(known - 0.1 * SAMPLES) < 4 * np.sqrt(0.1 * 0.9 * SAMPLES)


@pytest.mark.parametrize("part", ["skeleton", "hydrogens"])
def test_times_are_one_minus_the_root_of_uniform_ones(setting: Setting, part: str) -> None:
    """P(t < s) = P(u > (1 - s)^2) = 1 - (1 - s)^2."""
    assert kstest(getattr(setting, part).time, lambda s: 1 - (1 - s) ** 2).pvalue > 1e-3


@pytest.mark.parametrize(("part", "scale"), [("skeleton", 1.0), ("hydrogens", 0.8)])
def test_noise_is_normal_and_near_to_its_data(setting: Setting, part: str, scale: float) -> None:
    """x_1 = (x_t - (1 - t) x_0) / t is `scale` times normal noise; rotations and exchanges leave its square, which is
    chi-squared distributed, and make it point where the data are. Hydrogens count from the atom that carries them.
    """
    seen: Seen = getattr(setting, part)
    probabilities, overlaps = [], []
    for row, (known, noisy, t) in enumerate(zip(seen.known, seen.noisy, seen.time, strict=True)):
        atoms = IMAGES[row % 2 if part == "skeleton" else 0]
        nodes = int((atoms.numbers > 1).sum()) if part == "skeleton" else len(atoms)
        known, data = known[:nodes], clean(atoms, known[:nodes], nodes)
        if part == "hydrogens":
            distances = np.linalg.norm(data[:, None] - data[None, known], axis=-1)
            origin = data[known][distances.argmin(axis=1)]
        else:
            origin = np.zeros_like(data)
        relative = free(known, data - origin)
        noise = ((noisy[:nodes] - origin)[~known] - (1 - t) * relative) / t / scale
        freedom = noise.size - (0 if known.any() else 3)
        probabilities.append(chi2.cdf(np.sum(noise**2), freedom))
        overlaps.append(np.sum(noise * relative))
    assert kstest(probabilities, "uniform").pvalue > 1e-3
    assert np.mean(overlaps) > 5 * np.std(overlaps) / np.sqrt(len(overlaps))
