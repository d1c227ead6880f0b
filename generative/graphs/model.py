"""GraphModel: which atoms a molecule has, then which of them are bonded, before anything has a place.

    p(graph) = p(kinds of atoms) p(bonds | kinds)

The first factor is that of kinds.py. The second is masked diffusion on the orders 0 ... 3 of all pairs of heavy atoms
(process.py): with D pairs of which m are masked, each with the probability t and t uniform, the loss

    (D + 1) / m * sum over masked pairs of -log p(order | what is decided)

has a mean that bounds -log p(bonds | kinds) from above, in nats, for the atoms in a given order. It is the loss of
Hoogeboom et al. (arXiv:2110.02037), and that of masked diffusion, whose weight 1 / t has this mean for given m (Sahoo
et al., arXiv:2406.07524). Orders that no completion allows have the probability zero (valences.py), in training and in
sampling.

So every graph that is drawn is connected, neutral, and uses its valences exactly. Where the bounds did not foresee a
dead end, the sample is drawn anew with a seed of its own: what comes out has the distribution of the model, given that
it is a molecule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from atomsml.config import check_hyperparameters
from atomsml.generative.core.elements import check_same_elements, symbols
from atomsml.generative.core.fields import Field, State
from atomsml.generative.core.generator import Generator
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.categorical import Masking
from atomsml.generative.core.samplers import find_sampler
from atomsml.generative.core.samplers.base import Sampler, time_grid
from atomsml.generative.core.sampling import batches_of_like_size, sample_seed
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.graphs import pairs
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.kinds import MOST_CHARGE, Held, Kinds, count_kinds
from atomsml.generative.graphs.network import Atoms, GraphNetwork
from atomsml.generative.graphs.process import BondMasking
from atomsml.generative.graphs.set import GraphSet
from atomsml.generative.graphs.valences import ORDERS, UNDECIDED, settle

if TYPE_CHECKING:
    from rdkit.Chem import Mol

ATTEMPTS = 50  # of one graph; a trained network needs one, but for a few per thousand
MOST_ATOMS = 500  # heavy atoms: networks look at all pairs
PAIRS = {"cpu": 20_000, "cuda": 2_000_000, "mps": 500_000}  # of atoms in a batch, by the type of device


@dataclass(frozen=True)
class GraphConfig:
    """Hyperparameters of the generator of graphs."""

    elements: tuple[int, ...]  # atomic numbers of the heavy atoms, ascending
    num_kinds: int = 0  # of atoms in the training set: sizes of tables
    num_sets: int = 0  # distinct sets of kinds
    channels: int = 96  # of atoms
    pair_channels: int = 64  # of pairs; a multiple of the number of gates, 8
    triangle_channels: int = 16  # of the products over triangles
    hidden: int = 128
    num_layers: int = 5

    def __post_init__(self) -> None:
        widths = ("channels", "pair_channels", "triangle_channels", "hidden")
        at_most = {**dict.fromkeys(widths, 4096), "num_layers": 32, "num_kinds": 10**4, "num_sets": 10**6}
        check_hyperparameters(self, positive=(*widths, "num_layers"), at_most=at_most)
        if self.pair_channels % 8:
            raise ValueError(f"pair_channels must be a multiple of 8, the number of gates; got {self.pair_channels}")
        if min(self.num_kinds, self.num_sets) < 0:
            raise ValueError("num_kinds and num_sets must not be negative")


@dataclass(frozen=True)
class GraphRequest:
    """One graph that is asked for."""

    seed: int  # of this graph alone
    numbers: tuple[int, ...] | None = None  # of the heavy atoms, in the order of the result; None: drawn
    hydrogens: int | None = None  # in all; None: drawn
    num_atoms: int | None = None  # with hydrogens, where `numbers` does not say it; None: drawn
    # one graph, whose atoms come first with their bonds; each may lose hydrogens where the rest is attached
    scaffold: MolecularGraphs | None = None


class GraphModel(Generator[GraphSet, GraphRequest, MolecularGraphs]):
    """The generator of the module docstring.

    | buffer | shape | meaning |
    |---|---|---|
    | kinds | (kinds, 5) | element, charge, hydrogens, valence, neighbours |
    | sets | (sets, kinds) | how many atoms of each kind training molecules have |
    | set_counts | (sets,) | how many training molecules have these |
    """

    kind = "graphs"
    suffixes = (".smi", ".csv")
    Config = GraphConfig
    default_sampler, default_steps = "euler", 36
    config: GraphConfig
    kinds: Tensor
    sets: Tensor
    set_counts: Tensor

    def __init__(self, config: GraphConfig) -> None:
        super().__init__()
        self.config = config
        self.network = GraphNetwork(
            config.elements,
            config.channels,
            config.pair_channels,
            config.triangle_channels,
            config.hidden,
            config.num_layers,
        )
        self.register_buffer("kinds", torch.zeros(config.num_kinds, 5, dtype=torch.int32))
        self.register_buffer("sets", torch.zeros(config.num_sets, config.num_kinds, dtype=torch.int32))
        self.register_buffer("set_counts", torch.zeros(config.num_sets, dtype=torch.int32))

    @classmethod
    def read(cls, files: Sequence[str | Path]) -> GraphSet:
        from atomsml.generative.graphs.data import read_graphs

        return read_graphs(files)

    @classmethod
    def check(cls, train: GraphSet, valid: GraphSet) -> list[str]:
        check_same_elements(train.elements, valid.elements)
        return []

    @classmethod
    def measure(cls, samples: GraphSet) -> dict[str, Any]:
        kinds, sets, _ = count_kinds(samples.kinds())
        return {"elements": samples.elements, "num_kinds": len(kinds), "num_sets": len(sets)}

    def fit(self, samples: GraphSet) -> None:
        for buffer, table in zip((self.kinds, self.sets, self.set_counts), count_kinds(samples.kinds()), strict=True):
            buffer.copy_(torch.from_numpy(table))

    def start_from(self, other: Generator[Any, Any, Any]) -> None:
        """Take the network of another generator of graphs; which atoms there are is that of the new training set."""
        ours = self.config
        if (
            not isinstance(other, GraphModel)
            or replace(other.config, num_kinds=ours.num_kinds, num_sets=ours.num_sets) != ours
        ):
            raise ValueError("a generator of graphs starts from another one with the same elements and widths")
        self.network.load_state_dict(other.network.state_dict())

    def loss(self, batch: MolecularGraphs, generator: torch.Generator) -> Tensor:
        """(samples,) nats, as in the module docstring."""
        orders, total = pairs.to_list(batch.bonds), pairs.num_pairs(batch.sizes)
        seeds = torch.randint(2**62, (len(batch),), generator=generator).tolist()
        noise = SampleNoise(seeds, total.tolist(), orders.shape[1], device=orders.device)
        # spread evenly, which makes the mean over a batch less noisy
        t = ((torch.rand(1, generator=generator) + torch.arange(len(batch)) / len(batch)) % 1).to(orders.device)
        masked = Masking().corrupt(Categorical(ORDERS), orders, t, noise)
        wrong = -self.log_probabilities(Atoms.of(batch), pairs.to_dense(masked)).gather(2, orders[..., None])[..., 0]
        count = (masked == UNDECIDED).sum(dim=1)
        weight = (total + 1) / count.clamp(min=1)
        return weight * wrong.sum(dim=1)

    def log_probabilities(self, atoms: Atoms, bonds: Tensor) -> Tensor:
        """(samples, pairs, ORDERS) of what is UNDECIDED in `bonds`; of what is decided, or follows, 0 for its order."""
        bonds, known = settle(bonds, atoms.valences, atoms.neighbors, atoms.mask)
        logits = self.network(atoms, bonds, known)
        allowed = pairs.to_list(known.allowed)
        found: Tensor = logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)
        return found

    def requests(self, seeds: Sequence[int]) -> list[GraphRequest]:
        return [GraphRequest(seed) for seed in seeds]

    def batches(self, requests: Sequence[GraphRequest], at_once: int | None = None) -> list[list[int]]:
        """Of like sizes where these are asked for; otherwise as if all had the size of the largest that was seen."""
        most = int(self.sets.sum(dim=1).max()) if len(self.sets) else 1
        sizes = [most if request.numbers is None else len(request.numbers) for request in requests]
        limit = PAIRS.get(self.sets.device.type, PAIRS["cpu"]) if at_once is None else None
        return batches_of_like_size(sizes, limit, at_once)

    @torch.no_grad()
    def sample(self, requests: Sequence[GraphRequest], steps: int, sampler: str = "euler") -> Iterator[MolecularGraphs]:
        """As `Generator.sample`; undecided bonds are zero in all batches but the last.

        With as many steps as there are pairs, each order is drawn knowing all before it.

        Raises:
            ValueError: atoms that cannot be composed, or were not connected in ATTEMPTS attempts.
        """
        algorithm = find_sampler(sampler)
        done: dict[int, MolecularGraphs] = {}
        for attempt in range(ATTEMPTS):
            todo = [place for place in range(len(requests)) if place not in done]
            seeds = [sample_seed(requests[place].seed, attempt) for place in todo]
            atoms, start = self._start([requests[place] for place in todo], seeds)
            bonds = start
            for step, bonds in enumerate(self._draw(atoms, start, seeds, steps, algorithm), start=1):
                if attempt == 0 and step < steps:
                    yield _graphs(atoms, bonds)
            drawn, failed = _graphs(atoms, bonds), (bonds == UNDECIDED).flatten(1).any(dim=1).tolist()
            done |= {place: drawn.select([row]) for row, place in enumerate(todo) if not failed[row]}
            if len(done) == len(requests):
                yield MolecularGraphs.concatenate([done[place] for place in range(len(requests))])
                return
        raise ValueError(
            f"no bonds were found in {ATTEMPTS} attempts that connect the atoms of the request of seed "
            f"{requests[next(place for place in range(len(requests)) if place not in done)].seed}; change the formula "
            "or the scaffold"
        )

    def _start(self, requests: Sequence[GraphRequest], seeds: Sequence[int]) -> tuple[Atoms, Tensor]:
        """The atoms that are asked for, and their bonds (samples, nodes, nodes), undecided but for a scaffold's."""
        tables = (table.cpu().numpy().astype(np.int64) for table in (self.kinds, self.sets, self.set_counts))
        draw = Kinds(*tables).draw
        rows = [
            draw(np.random.default_rng(seed), r.numbers, r.hydrogens, r.num_atoms, _held(r.scaffold))
            for r, seed in zip(requests, seeds, strict=True)
        ]
        table = pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True).to(self.kinds.device)
        atoms = Atoms(*table.unbind(dim=2))
        mask = atoms.mask
        bonds = torch.where(mask[:, :, None] & mask[:, None], UNDECIDED, 0)
        for row, request in enumerate(requests):
            if request.scaffold is not None:
                held = int(request.scaffold.sizes)
                bonds[row, :held, :held] = request.scaffold.bonds[0, :held, :held].to(bonds)
        bonds.diagonal(dim1=1, dim2=2).zero_()
        return atoms, bonds

    def _draw(
        self, atoms: Atoms, bonds: Tensor, seeds: Sequence[int], steps: int, sampler: Sampler
    ) -> Iterator[Tensor]:
        """The bonds after every step."""
        dtype, device = self.network.pairs.weights[0].dtype, bonds.device
        start = {"bonds": pairs.to_list(bonds)}
        num_pairs = pairs.num_pairs(atoms.mask.sum(dim=1)).tolist()
        noise = SampleNoise(seeds, num_pairs, start["bonds"].shape[1], dtype, device)
        fields = {"bonds": Field(Categorical(ORDERS), BondMasking(atoms.valences, atoms.neighbors, atoms.mask))}

        def predict(state: State, t: Tensor) -> State:
            bonds = pairs.to_dense(state["bonds"])
            going = torch.nonzero((bonds == UNDECIDED).flatten(1).any(dim=1)).flatten()
            found = torch.zeros(*state["bonds"].shape, ORDERS, dtype=dtype, device=device)
            if len(going):
                found[going] = self.log_probabilities(atoms.select(going), bonds[going]).exp()
            return {"bonds": found}

        for state in sampler.sample(predict, fields, start, time_grid(steps, dtype, device), noise):
            yield pairs.to_dense(state["bonds"])

    @staticmethod
    def unpack(batch: MolecularGraphs) -> list[Mol]:
        return batch.to_mols()

    @classmethod
    def write(cls, path: Path, samples: Sequence[Mol]) -> None:
        """A SMILES on each line, or in the column `smiles` of a table."""
        from rdkit import Chem

        head = ["smiles"] if path.suffix == ".csv" else []
        path.write_text("\n".join([*head, *(Chem.MolToSmiles(mol) for mol in samples), ""]))

    @classmethod
    def judge(cls, samples: Sequence[Mol]) -> dict[str, Any]:
        """The fraction of graphs that differ from each other."""
        from rdkit import Chem

        return {"unique": len({Chem.MolToSmiles(mol) for mol in samples}) / max(len(samples), 1)}

    def describe(self) -> dict[str, Any]:
        """Elements, and of the training set how many graphs it has and the sizes they span."""
        sizes = self.sets.sum(dim=1)
        return {
            "elements": symbols(self.config.elements),
            "graphs": int(self.set_counts.sum()),
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "largest": int(sizes.max()) if len(sizes) else 0,
        }

    def check_elements(self, numbers: Iterable[int]) -> None:
        """Refuse elements that no atom of the training set has.

        Raises:
            ValueError: names them, and those that are known.
        """
        strange = sorted(set(numbers) - set(self.config.elements))
        if strange:
            known = ", ".join(symbols(self.config.elements))
            raise ValueError(f"the model does not know {', '.join(symbols(strange))}; its heavy elements are {known}")

    def check_tables(self) -> None:
        """Refuse tables of which nothing can be drawn."""
        lowest, highest = (
            self.kinds.new_tensor([1, -MOST_CHARGE, 0, 0, 0]),
            self.kinds.new_tensor([118, MOST_CHARGE, 4, 8, 8]),
        )
        if ((self.kinds < lowest) | (self.kinds > highest)).any():
            raise ValueError("its kinds of atoms are none")
        sizes = self.sets.sum(dim=1)
        if (self.sets < 0).any() or (sizes < 1).any() or (sizes > MOST_ATOMS).any() or (self.set_counts < 1).any():
            raise ValueError(f"its sets of kinds are no counts of 1 to {MOST_ATOMS} atoms")


def _graphs(atoms: Atoms, bonds: Tensor) -> MolecularGraphs:
    """With undecided bonds left out."""
    return MolecularGraphs(atoms.numbers, atoms.charges, atoms.hydrogens, torch.where(bonds == UNDECIDED, 0, bonds))


def _held(scaffold: MolecularGraphs | None) -> Held | None:
    if scaffold is None:
        return None
    size = int(scaffold.sizes)
    bonds = scaffold.bonds[0, :size, :size]
    columns = [values[0, :size] for values in (scaffold.numbers, scaffold.charges, scaffold.hydrogens)]
    columns += [bonds.sum(dim=1), (bonds > 0).sum(dim=1)]
    return Held(torch.stack(columns, dim=1).cpu().numpy())
