"""What the two networks of a graph flow are asked: where heavy atoms and hydrogens go, given all bonds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from atomsml.generative.molecules.flow.network import Atoms
from atomsml.generative.molecules.flow.tasks import UNIT, Task, UnitedMolecules, centre_of
from atomsml.generative.molecules.flow.united_atoms import KINDS
from atomsml.generative.molecules.graph_flow.springs import pulled_places, spring_roots
from atomsml.generative.molecules.molecules import Molecules

HEAVY_SPREAD, HYDROGEN_SPREAD = 0.7, 0.5  # in UNIT: standard deviations of a bond, in each direction
ORDERS = 4  # single, double, triple, aromatic
FARTHEST = 6  # bonds between two atoms; more count as so many
PAIR_FEATURES = ORDERS + FARTHEST - 1 + 2


def bonded_molecules(molecules: Molecules, heavy: Sequence[int]) -> UnitedMolecules:
    """Heavy atoms first, then hydrogens, with their bonds; `heavy` are the elements.

    Raises:
        ValueError: unknown bonds, or a hydrogen that is bonded to no heavy atom.
    """
    numbers = molecules.numbers
    if molecules.bonds is None or bool((molecules.bonds[:, 0, 0] < 0).any()):
        raise ValueError("a molecule without bonds; a graph flow is told them all")
    rank = torch.where(numbers > 1, 0, torch.where(numbers == 1, 1, 2))
    order = rank.sort(dim=1, stable=True).indices
    numbers = numbers.gather(1, order)
    rows = order[..., None].expand(-1, -1, order.shape[1])
    bonds = molecules.bonds.gather(1, rows).gather(2, rows.mT)
    positions = molecules.positions.gather(1, order[..., None].expand_as(molecules.positions)) / UNIT
    to_heavy = (bonds > 0) & (numbers > 1)[:, None]
    hydrogen = numbers == 1
    if not bool(to_heavy.any(dim=2)[hydrogen].all()):
        raise ValueError("a molecule with a hydrogen that is bonded to no heavy atom; leave it out")
    parent = torch.where(hydrogen, to_heavy.int().argmax(dim=2), -1)
    carried = ((bonds > 0) & hydrogen[:, None]).sum(dim=2)
    elements = torch.tensor(heavy, device=numbers.device)
    types = torch.searchsorted(elements, numbers.clamp(min=2)) * KINDS + carried.clamp(max=KINDS - 1)
    types = torch.where(numbers > 1, types, len(heavy) * KINDS * hydrogen)
    return UnitedMolecules(types, parent, (numbers > 1).sum(dim=1), (numbers > 0).sum(dim=1), positions, bonds)


def bonded_skeleton_task(united: UnitedMolecules, known: Tensor) -> Task:
    """Place the heavy atoms that are not `known` (samples, nodes)."""
    nodes = int(united.num_heavy.max())
    return _task(united, nodes, united.is_heavy[:, :nodes], known[:, :nodes], HEAVY_SPREAD)


def bonded_hydrogen_task(united: UnitedMolecules) -> Task:
    """Place the hydrogens about a skeleton whose positions are known."""
    return _task(united, united.mask.shape[1], united.mask, united.is_heavy, HYDROGEN_SPREAD)


def _task(united: UnitedMolecules, nodes: int, mask: Tensor, known: Tensor, spread: float) -> Task:
    """Place the first `nodes` atoms that are not `known`; `spread` is the standard deviation of a bond."""
    assert united.bonds is not None
    # where molecules differ in size, some of these atoms are hydrogens of the smaller ones
    bonds, moving = united.bonds[:, :nodes, :nodes] * (mask[:, :, None] & mask[:, None]), mask & ~known
    positions = united.positions[:, :nodes]
    centre = centre_of(positions, torch.where(known.any(dim=1)[:, None], known, mask))
    places = (positions - centre) * mask[..., None]
    weights = (bonds > 0).to(places) / spread**2
    root, inverse = spring_roots(weights, moving)
    origin = pulled_places(weights, places, known, root)
    types = torch.where(mask, united.types[:, :nodes], 0)
    alone = torch.arange(nodes, device=mask.device) + nodes  # heavy atoms are told apart by the graph
    groups = torch.where(moving, torch.where(united.parent[:, :nodes] >= 0, united.parent[:, :nodes], alone), -1)
    atoms = Atoms(types, mask, known, pair_features(bonds).to(places), places.new_zeros(len(places), 0))
    return Task(atoms, places, centre, origin, groups, root, inverse)


def pair_features(bonds: Tensor) -> Tensor:
    """(samples, nodes, nodes, PAIR_FEATURES) of 0 and 1: what the graph says of two atoms.

    The order of their bond; how many bonds are between them, from 2 on; whether several ways are as short, as across
    a ring with an even number of atoms; and whether one is longer by one bond, as in a ring with an odd number.
    """
    adjacent = (bonds > 0).float()
    nodes = bonds.shape[1]
    walks = torch.eye(nodes, device=bonds.device).expand_as(adjacent)
    apart = torch.where(walks > 0, 0, FARTHEST).long()
    several, longer = torch.zeros_like(bonds, dtype=torch.bool), torch.zeros_like(bonds, dtype=torch.bool)
    for length in range(1, FARTHEST):
        walks = walks @ adjacent
        reached = (walks > 0) & (apart == FARTHEST)
        several |= reached & (walks > 1)
        longer |= (walks > 0) & (apart == length - 1) & (apart > 0)
        apart = torch.where(reached, length, apart)
    orders = one_hot(bonds, ORDERS + 1)[..., 1:]
    distances = one_hot(apart, FARTHEST + 1)[..., 2:]
    return torch.cat([orders, distances, several[..., None], longer[..., None]], dim=-1)
