"""Flow matching for molecules whose bonds are drawn first: the graph, then its heavy atoms, then its hydrogens.

    p(molecule) = p(graph) p(heavy atoms | graph) p(hydrogens | heavy atoms, graph)

The first factor is a generator of graphs (atomsml/generative/graphs), or a graph that is asked for. The other two are
flows like those of `flow`, but their networks are told all bonds instead of predicting them, and their noise has the
covariance of atoms on springs along the bonds (springs.py), which is nearer to molecules than independent noise is:

| | heavy atoms | hydrogens |
|---|---|---|
| what moves | heavy atoms, on springs along their bonds | hydrogens, on springs from the heavy atoms that carry them |
| paired with x_0 by | the nearest rotation or reflection | exchange among the hydrogens of one heavy atom |
| known from the start | bonds; a scaffold, if there is one | bonds, the heavy atoms |

Heavy atoms are told apart by the graph, so that their noise is not exchanged: that would change its distribution.
The networks do not tell a molecule from its mirror image: stereochemistry that is asked for is checked afterwards
(stereo.py), as are the bonds (../known_bonds.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from atomsml.generative.core.generator import Generator
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.model import GraphConfig, GraphModel, GraphRequest
from atomsml.generative.molecules.flow.matching import grid_sampler, matching_loss, place
from atomsml.generative.molecules.flow.model import (
    HYDROGEN_SHARE,
    HYDROGEN_STEPS,
    MoleculeFlow,
    NetworkConfig,
    check_elements,
)
from atomsml.generative.molecules.flow.network import MoleculeNetwork
from atomsml.generative.molecules.flow.tasks import UNIT, known_parts
from atomsml.generative.molecules.flow.united_atoms import KINDS
from atomsml.generative.molecules.graph_flow.atoms import molecules_of_graphs, unsuited
from atomsml.generative.molecules.graph_flow.start import take_weights
from atomsml.generative.molecules.graph_flow.tasks import (
    PAIR_FEATURES,
    bonded_hydrogen_task,
    bonded_molecules,
    bonded_skeleton_task,
)
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.io import parse_smiles

NO_GRAPHS = (
    "the model has no generator of graphs: it places the atoms of a given --smiles, or is trained with "
    "parts: {graphs: MODEL}"
)


@dataclass(frozen=True)
class GraphFlowConfig:
    """Hyperparameters of the flow."""

    elements: tuple[int, ...]  # atomic numbers, ascending; hydrogen first
    conditions: tuple[str, ...] = ()  # none: properties belong to the graph more than to the places of its atoms
    num_formulas: int = 0  # of the training set: the size of a table
    graphs: GraphConfig | None = None  # of the generator of graphs; None: only given graphs are placed
    skeleton: NetworkConfig = field(default_factory=lambda: NetworkConfig(128, 64, 16, 256, 6))
    hydrogens: NetworkConfig = field(default_factory=lambda: NetworkConfig(64, 48, 8, 128, 4))

    def __post_init__(self) -> None:
        check_elements(self.elements)
        if self.conditions:
            raise ValueError("a graph-flow follows no conditions; train a flow, or leave them out")


class GraphFlow(MoleculeModel):
    """The generator of the module docstring."""

    Config = GraphFlowConfig
    default_sampler, default_steps = "ddpm", 30
    draws_elements = composes = takes_smiles = True
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"small": {}}
    config: GraphFlowConfig

    def __init__(self, config: GraphFlowConfig) -> None:
        super().__init__(config)
        self.graphs = None if config.graphs is None else GraphModel(config.graphs).requires_grad_(False)
        self.heavy = config.elements[1:]
        num_types = len(self.heavy) * KINDS + 1
        self.skeleton = MoleculeNetwork(num_types, 0, PAIR_FEATURES, False, **asdict(config.skeleton))
        self.hydrogens = MoleculeNetwork(num_types, 0, PAIR_FEATURES, False, **asdict(config.hydrogens))

    @classmethod
    def check(cls, train: MoleculeSet, valid: MoleculeSet) -> list[str]:
        for name, molecules in (("training", train), ("validation", valid)):
            why = unsuited(molecules)
            if why:
                raise ValueError(f"the {name} set: {why}")
        return super().check(train, valid)

    def start_from(self, other: Generator[Any, Any, Any]) -> None:
        if not isinstance(other, MoleculeFlow) or other.config.elements != self.config.elements:
            raise ValueError("a graph-flow starts from a flow of the same elements, or from random weights")
        take_weights(self.skeleton, other.skeleton)
        take_weights(self.hydrogens, other.hydrogens)

    def loss(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        united = bonded_molecules(batch, self.heavy)
        loss = matching_loss(self.skeleton, bonded_skeleton_task(united, known_parts(united, rng)), None, rng)
        some = torch.nonzero(united.num_atoms > united.num_heavy).flatten()[::HYDROGEN_SHARE]
        if len(some) == 0:
            return loss
        return loss + matching_loss(self.hydrogens, bonded_hydrogen_task(united.select(some)), None, rng).mean()

    def graphs_of(self, requests: Sequence[Request], scaffold: Scaffold | None) -> MolecularGraphs:
        """The graphs that are asked for by SMILES, or drawn with the atoms or the size of a request, if it has them.

        Raises:
            ValueError: some graphs are asked for and others are not, there is no generator of graphs, or a scaffold
                without bonds.
        """
        smiles = [request.smiles for request in requests if request.smiles is not None]
        if smiles:
            if len(smiles) < len(requests):
                raise ValueError("either all molecules of a batch are asked for by SMILES, or none is")
            return MolecularGraphs.from_mols([parse_smiles(text) for text in smiles])
        if self.graphs is None:
            raise ValueError(NO_GRAPHS)
        if scaffold is not None and scaffold.graph is None:
            raise ValueError(
                "the bonds of the scaffold are not known, and its molecule is built of bonds; give it as an SDF file, "
                "or with its hydrogens"
            )
        wanted = [_graph_request(request, scaffold) for request in requests]
        *_, found = self.graphs.sample(wanted, self.graphs.default_steps, self.graphs.default_sampler)
        return found

    def requests(self, seeds: Sequence[int]) -> list[Request]:
        if self.graphs is None:
            raise ValueError(NO_GRAPHS)
        return super().requests(seeds)

    def num_states(self, steps: int, sampler: str) -> int | None:
        states = super().num_states(steps, sampler)
        return None if states is None else states + min(states, HYDROGEN_STEPS)

    def check_tables(self) -> None:
        super().check_tables()
        if self.graphs is not None:
            self.graphs.check_tables()

    @torch.no_grad()
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str = "ddpm",
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        algorithm = grid_sampler(sampler)
        molecules = molecules_of_graphs(self.graphs_of(requests, scaffold)).to(self.formulas.device)
        united = bonded_molecules(molecules.replace(positions=molecules.positions.to(self.condition_mean)), self.heavy)
        known = torch.zeros_like(united.mask)
        if scaffold is not None:
            held = len(scaffold.numbers)
            known[:, :held] = True
            united.positions[:, :held] = scaffold.positions.to(united.positions) / UNIT
        seeds = [request.seed for request in requests]
        task = bonded_skeleton_task(united, known)
        nodes = task.places.shape[1]
        for x in place(self.skeleton, task, seeds, steps, algorithm, 1.0):
            united = replace(united, positions=torch.cat([x, united.positions[:, nodes:]], dim=1))
            skeletons = torch.where(united.is_heavy, molecules.numbers, 0)
            yield Molecules(skeletons, united.positions * UNIT)
        seeds, steps = [seed + 1 for seed in seeds], min(steps, HYDROGEN_STEPS)
        for x in place(self.hydrogens, bonded_hydrogen_task(united), seeds, steps, algorithm, 1.0):
            yield molecules.replace(positions=x * UNIT)


def _graph_request(request: Request, scaffold: Scaffold | None) -> GraphRequest:
    """The graph of a molecule, whose seed is neither that of heavy atoms nor of hydrogens."""
    seed, held = request.seed + 2, None if scaffold is None else scaffold.graph
    if request.numbers is None:
        return GraphRequest(seed, num_atoms=request.num_atoms or None, scaffold=held)
    heavy = tuple(number for number in request.numbers if number > 1)
    if not heavy:
        raise ValueError("a molecule of hydrogens alone has no skeleton; ask for a formula with a heavy atom")
    return GraphRequest(seed, heavy, len(request.numbers) - len(heavy), scaffold=held)
