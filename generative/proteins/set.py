"""BackboneSet: windows of chains for training, and batches of them as frames.

A network of this size learns from pieces of 40 to 128 residues. A window is such a piece of one run of bonded residues:
windows of 40, 48, ... 128 residues that begin at every eighth residue, and every run that is as short as a whole. Those
that lie stretched out are left out, as the arms that are cut from a fold of several hundred residues often do: one of N
residues has a radius of gyration of at most

    COMPACT * 2.96 N^0.318 A

The formula is what chains that fold alone have on average. Windows cut from long chains are wider, the more so the
shorter they are, and a generator that learns from all of them draws wide chains: docs/training.md has the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from atomsml.dataset.content import hash_bytes
from atomsml.generative.core.set import SampleSet
from atomsml.generative.proteins.backbones import Backbones, Chain
from atomsml.generative.proteins.geometry import frames_of
from atomsml.generative.proteins.io.files import read_files
from atomsml.io import Refused

SHORTEST, LONGEST = 40, 128  # residues of a window
STRIDE = 8  # residues from one window to the next, and from one length to the next
COMPACT = 1.1  # at most, of the radius of gyration to that of a chain that folds alone
GRID = 1e-3  # A, of what PDB holds: coordinates that agree within it count as one
SHOWN = 20  # files that are named of those that cannot be read


def radius_of_folded(residues: int) -> float:
    """A, the radius of gyration of CA that chains of so many residues have on average."""
    return float(2.96 * residues**0.318)


def radius_of_gyration(coordinates: np.ndarray) -> float:
    """A, of the CA of atoms (residues, 3 or 4, 3)."""
    ca = coordinates[:, 1]
    return float(np.sqrt(((ca - ca.mean(axis=0)) ** 2).sum(axis=1).mean()))


@dataclass(frozen=True)
class BackboneSet(SampleSet[Backbones]):
    """Windows of chains; `warnings` says what was left out.

    | field | shape | meaning |
    |---|---|---|
    | chains | (chains,) | runs of bonded residues |
    | families | (chains,) | uint64, equal for the runs of one chain and of chains of the same sequence |
    | windows | (samples, 3) | the chain of each sample, its first residue there, and how many it has |
    """

    chains: tuple[Chain, ...]
    families: np.ndarray
    windows: np.ndarray
    warnings: tuple[str, ...] = ()
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)  # none

    @property
    def sizes(self) -> np.ndarray:
        """(samples,) number of residues."""
        sizes: np.ndarray = self.windows[:, 2]
        return sizes

    def hashes(self) -> np.ndarray:
        """(samples,) uint64 of the coordinates of each window, to 0.001 A."""
        grids = [np.rint(chain.coordinates / GRID).astype("<i8") for chain in self.chains]
        contents = (grids[chain][first : first + size] for chain, first, size in self.windows.tolist())
        return np.array([hash_bytes(content.tobytes()) for content in contents], np.uint64)

    def groups(self) -> np.ndarray:
        """(samples,) uint64, equal for windows of the same chain, and of chains of the same sequence."""
        groups: np.ndarray = self.families[self.windows[:, 0]]
        return groups

    def subset(self, rows: np.ndarray) -> BackboneSet:
        """The windows `rows`, in that order, and the chains that they are of."""
        used, chain = np.unique(self.windows[rows, 0], return_inverse=True)
        windows = np.column_stack([chain, self.windows[rows, 1:]])
        return BackboneSet(tuple(self.chains[index] for index in used), self.families[used], windows)

    def batch(self, rows: np.ndarray, conditions: Sequence[str] = ()) -> Backbones:
        """Frames of the windows, float32, with the places of CA centred."""
        parts = []
        for chain, first, size in self.windows[rows].tolist():
            quaternions, places = self._frames[chain]
            parts.append((quaternions[first : first + size], places[first : first + size]))
        return Backbones(
            pad_sequence([quaternions for quaternions, _ in parts], batch_first=True),
            pad_sequence([places - places.mean(dim=0) for _, places in parts], batch_first=True),
            pad_sequence([torch.ones(len(places), dtype=torch.bool) for _, places in parts], batch_first=True),
        )

    @cached_property
    def _frames(self) -> list[tuple[Tensor, Tensor]]:
        frames = (frames_of(torch.from_numpy(chain.coordinates)) for chain in self.chains)
        return [(quaternions.float(), (places - places.mean(dim=0)).float()) for quaternions, places in frames]

    def describe(self) -> str:
        return (
            f"{len(self):,} windows of {self.sizes.min()} to {self.sizes.max()} residues, "
            f"of {len(set(self.families.tolist())):,} different chains"
        )


def read_backbones(paths: Sequence[str | Path]) -> BackboneSet:
    """Windows of the chains of files, folders and archives: PDB, mmCIF, and HDF5 made by `atomsml data backbones`.

    Of several models of a file the first counts, and of equal chains one. Files that cannot be read are skipped and
    named among the warnings.

    Raises:
        OSError: no such file.
        ValueError: a file of another format, or no compact chain of 40 bonded residues.
    """
    return backbone_set(read_files(paths), ", ".join(map(str, paths)))


def backbone_set(files: Iterable[Sequence[Chain] | Refused], where: str) -> BackboneSet:
    """Windows of the chains of each file; `where` they come from is for messages."""
    refused: list[Refused] = []
    counts: Counter[str] = Counter()
    chains: dict[int, tuple[Chain, int]] = {}  # with their families, by content
    for file in files:
        if isinstance(file, Refused):
            refused.append(file)
            continue
        runs = first_model(file)
        counts["are of a further model of their file"] += len(file) - len(runs)
        for run in runs:
            if len(run) < SHORTEST:
                counts[f"have less than {SHORTEST} bonded residues"] += 1
                continue
            content = hash_bytes(np.rint(run.coordinates / GRID).astype("<i8").tobytes())
            counts["stand there twice"] += content in chains
            chains.setdefault(content, (run, _family(runs, run.name)))
    windows = np.array(_windows([chain for chain, _ in chains.values()]), np.int64).reshape(-1, 3)
    warnings = [f"left out {each}" for each in refused[:SHOWN]]
    if len(refused) > SHOWN:
        warnings.append(f"left out {len(refused) - SHOWN} more files that cannot be read")
    warnings += [f"chains left out that {what}: {count}" for what, count in counts.items() if count]
    if len(windows) == 0:
        why = f"; {warnings[0]}" if warnings else ""
        raise ValueError(f"{where}: has no compact chain of {SHORTEST} bonded residues or more{why}")
    families = np.array([family for _, family in chains.values()], np.uint64)
    return BackboneSet(tuple(chain for chain, _ in chains.values()), families, windows, tuple(warnings))


def first_model(file: Sequence[Chain]) -> list[Chain]:
    """Of the chains of a file those of its first model: others, as of an ensemble, are nearly the same."""
    return [run for run in file if run.where == file[0].where]


def _family(runs: Sequence[Chain], name: str) -> int:
    """Of the sequence of the whole chain; where it says nothing, as of generated ones, of the coordinates."""
    own = [run for run in runs if run.name == name]
    sequence = "".join(run.sequence for run in own)
    if len(set(sequence)) > 1:
        return hash_bytes(sequence.encode())
    return hash_bytes(np.rint(np.concatenate([run.coordinates for run in own]) / GRID).astype("<i8").tobytes())


def _windows(chains: Sequence[Chain]) -> list[tuple[int, int, int]]:
    """Chain, first residue and length of all windows that are compact."""
    found = []
    for index, chain in enumerate(chains):
        pieces = [
            (first, size)
            for size in range(SHORTEST, min(LONGEST, len(chain)) + 1, STRIDE)
            for first in range(0, len(chain) - size + 1, STRIDE)
        ]
        if len(chain) <= LONGEST and (0, len(chain)) not in pieces:
            pieces.append((0, len(chain)))
        for first, size in pieces:
            if radius_of_gyration(chain.coordinates[first : first + size]) <= COMPACT * radius_of_folded(size):
                found.append((index, first, size))
    return found
