"""What an architecture can tell apart: pairs of structures that defeat certain kinds of message passing.

The experiments of Joshi et al., "On the expressive power of geometric graph neural networks" (arXiv:2301.09308), made
deterministic: nothing is trained. A network of analytic functions with random weights gives two structures the same
energy only where every network of its kind does, but for a set of weights of measure zero. So a few random networks
answer by one evaluation what training can only suggest.

| pair | the two structures differ in | what it takes |
|---|---|---|
| chain | the orientation of two ends, with k atoms between them | layers |
| rings | the angle between two rings of L atoms on one axis, which only the atoms on the axis connect | degree L |
| environment | nothing that correlations of 2, 3 or 4 bodies see: a centre and its neighbours | body order |

Two structures count as told apart when their energies differ by much more than the rounding error. That is measured:
energies of rotated copies of one structure differ by nothing else. Everything is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, evaluate

CUTOFF = 5.0  # A: who sees whom in these structures
BOND = 3.0  # A: well inside, where envelopes are far from zero
CLEAR = 30  # a difference counts from this multiple of the rounding error on
SEEDS = range(3)

Pair = tuple[AtomicGraph, AtomicGraph]


def chain(k: int) -> Pair:
    """k atoms in a line, and an atom at each end, bent away from the line: to one side, or to opposite sides.

    Only neighbours in the chain see each other. What distinguishes the two must travel from both ends to where it
    meets, which takes floor(k / 2) + 1 layers (section 5 of the paper).
    """
    line = BOND * np.arange(k)[:, None] * [1.0, 0.0, 0.0]
    along, aside = BOND * np.array([0.5, 0.0, 0.0]), BOND * np.array([0.0, math.sqrt(0.75), 0.0])
    begin, end = line[0] - along + aside, line[-1] + along
    return _sees_cutoff([begin, *line, end + aside]), _sees_cutoff([begin, *line, end - aside])


def rings(fold: int) -> Pair:
    """Two bonded atoms, each with a ring of `fold` atoms about their axis: eclipsed, or one turned by pi / fold.

    All that one half knows of the other comes from an atom on an axis of `fold`-fold symmetry. A feature of degree
    l < fold that obeys this symmetry is the same however the ring is turned, so that layers do not help (section 5 of
    the paper, which turns a single ring against a fixed frame; energies know no fixed frame).
    """
    radius, height = 0.75 * BOND, 1.25 * BOND  # within sight of the near atom of the bond, out of sight of the far one

    def half(side: int, turn: float) -> list[np.ndarray]:
        angles = turn + 2 * math.pi / fold * np.arange(fold)
        ring = [np.array([radius * math.cos(a), radius * math.sin(a), side * height]) for a in angles]
        return [np.array([0.0, 0.0, side * 0.5 * BOND]), *ring]

    eclipsed, staggered = ([*half(-1, 0.0), *half(1, turn)] for turn in (0.0, math.pi / fold))
    return _sees_cutoff(eclipsed), _sees_cutoff(staggered)


def environments() -> dict[str, Pair]:
    """Pairs of a centre (the first atom) with neighbours that correlations of up to so many bodies cannot tell apart.

    From Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020). The centre and its neighbours see each other; the
    neighbours do not see one another, whatever their distances. Mirror images of a chiral environment must have the
    same energy where energies are invariant under inversion.
    """
    upper = [(3, 2, -4), (0, 2, 5), (0, 2, -5)]
    lower = Rotation.from_euler("y", 18, degrees=True).apply([(3, -2, -4), (0, -2, 5), (0, -2, -5)])
    planar = [(3, 0, -4), (0, 0, 5), (0, 0, -5)]
    three = [(5, 0, 5), (5, 5, 5), (-5, -5, 5)]
    top, bottom = (0, 5, 0), (0, -5, 0)
    return {
        "2 bodies": (_sees_centre([(5, 0, 0), (3, 0, 4)]), _sees_centre([(5, 0, 0), (-5, 0, 0)])),
        "3 bodies": (_sees_centre([*three, (0, 5, 5)]), _sees_centre([*three, (0, -5, 5)])),
        "4 bodies": (_sees_centre([*upper, *lower, top]), _sees_centre([*upper, *lower, bottom])),
        "mirror images": (_sees_centre([*planar, top]), _sees_centre([*planar, bottom])),
    }


def _sees_cutoff(positions: Any) -> AtomicGraph:
    return _carbon(np.array(positions)).with_neighbors(CUTOFF)


def _sees_centre(neighbors: Any) -> AtomicGraph:
    """Edges from and to the centre only; lengths are scaled so that the longest is BOND."""
    positions = np.array([(0, 0, 0), *neighbors], dtype=float)
    graph = _carbon(positions * (BOND / np.linalg.norm(positions, axis=1).max()))
    others, centre = torch.arange(1, len(positions)), torch.zeros(len(positions) - 1, dtype=torch.int64)
    edge_index = torch.stack([torch.cat([others, centre]), torch.cat([centre, others])])
    return graph.replace(edge_index=edge_index, cell_offsets=torch.zeros(edge_index.shape[1], 3, dtype=torch.int64))


def _carbon(positions: np.ndarray) -> AtomicGraph:
    return AtomicGraph(
        positions=torch.from_numpy(positions),
        numbers=torch.full((len(positions),), 6),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.zeros(len(positions), dtype=torch.int64),
    )


@dataclass(frozen=True)
class Experiment:
    """How many layers, or which degree of features, it takes to tell a pair apart."""

    pair: Pair
    varied: Literal["layers", "degree"]
    most: int  # layers or degree, after which to give up

    def separation(self, architecture: type[Potential], count: int, changes: Mapping[str, Any]) -> float:
        """With so many layers, or this degree: the best separation by some random potentials.

        Above CLEAR the architecture tells the pair apart. See `separation` and, for `changes`, `random_potential`.
        """
        num_layers, degree = (count, 2) if self.varied == "layers" else (3, count)
        potentials = (random_potential(architecture, num_layers, degree, seed, changes) for seed in SEEDS)
        return max(separation(potential, self.pair) for potential in potentials)


def experiments() -> dict[str, Experiment]:
    """All experiments, by name."""
    return {
        **{f"chain of {k}": Experiment(chain(k), "layers", k + 2) for k in (2, 3, 4)},
        **{f"rings of {fold}": Experiment(rings(fold), "degree", fold + 1) for fold in (2, 3, 4)},
        **{name: Experiment(pair, "layers", 4) for name, pair in environments().items()},
    }


def separation(potential: Potential, pair: Pair) -> float:
    """How much the energies of two structures differ, in units of their rounding error."""
    rotations = torch.from_numpy(Rotation.random(4, random_state=0).as_matrix())
    copies = [graph.replace(positions=graph.positions @ r) for graph in pair for r in rotations]
    prediction = evaluate(potential, AtomicGraph.from_list(copies), forces=False)
    energies = prediction.energy.view(2, len(rotations))
    spread = float((energies.amax(dim=1) - energies.amin(dim=1)).max())
    least = torch.finfo(torch.float64).eps * float(prediction.atom_energies.abs().sum()) / len(copies)
    return float((energies[0].mean() - energies[1].mean()).abs()) / max(spread, least)


def random_potential(
    architecture: type[Potential], num_layers: int, degree: int, seed: int, changes: Mapping[str, Any]
) -> Potential:
    """A small network in float64 with random weights, whose features have degrees up to `degree` if they have any.

    It is made by the config fields that architectures share; `changes` are fields of this one, None for the default.
    """
    hints = get_type_hints(architecture.Config)
    shared = {
        "elements": (6,),
        "cutoff": CUTOFF,
        "channels": 4 if hints["channels"] is int else (4,) * (degree + 1),  # one number for each degree
        "lmax": degree,
        "hidden_lmax": degree,
        "mmax": degree,
        "num_layers": num_layers,
        "num_bessel": 4,
        "radial_mlp": (8,),
        "readout_channels": 4,
    }
    options = {k: v for k, v in shared.items() if k in hints} | dict(changes)
    config = architecture.Config(**{k: v for k, v in options.items() if v is not None})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        potential = architecture(config).cast(torch.float64)
    for weight in potential.parameters():  # what starts small or at zero on purpose would drown in rounding
        largest = float(weight.detach().abs().max())
        if largest < 0.05:
            weight.data = weight.data / largest if largest else torch.ones_like(weight)
    return potential
