"""Contigs: which residues of a protein a chain is to hold, and how many free ones stand around them.

    10-20,A5-25,8,B40A,10-20

reads: 10 to 20 free residues, then 5 to 25 of chain A of the file of the motif, 8 free ones, residue 40A (40 with the
insertion code A) of chain B, and 10 to 20 free ones (Watson et al., Nature 620, 1089, 2023). Numbers are those that the
file has, and those of a segment are counted along its chain, so that -3 is a number as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from atomsml.generative.proteins.backbones import BackboneRequest, Chain, Motif
from atomsml.generative.proteins.geometry import frames_of
from atomsml.generative.proteins.io import read_chains

BONDED = 2.0  # A, at most from C to the next N, as where chains are read
STRETCHED = 3.81  # A, from CA to CA: a chain of n bonds spans n times that, and no more
FREE = re.compile(r"(\d+)(?:-(\d+))?")
SEGMENT = re.compile(r"([A-Za-z]+)(-?\d+[A-Za-z]?)(?:-(-?\d+[A-Za-z]?))?")


@dataclass(frozen=True)
class Free:
    """From `least` to `most` residues that are drawn."""

    least: int
    most: int


@dataclass(frozen=True)
class Segment:
    """Residues of a file, by their numbers there; one residue where both are equal."""

    chain: str
    first: str
    last: str

    def __str__(self) -> str:
        return f"{self.chain}{self.first}" + ("" if self.first == self.last else f"-{self.last}")


def parse_contig(text: str) -> list[Free | Segment]:
    """The parts of a contig.

    Raises:
        ValueError: a part that is neither free residues nor a segment; names it.
    """
    parts: list[Free | Segment] = []
    for word in text.replace(" ", "").split(","):
        if found := FREE.fullmatch(word):
            least, most = int(found[1]), int(found[2] or found[1])
            if most < least:
                raise ValueError(f"--contig: {word} goes from more to fewer; write {most}-{least}")
            parts.append(Free(least, most))
        elif found := SEGMENT.fullmatch(word):
            parts.append(Segment(found[1], found[2], found[3] or found[2]))
        else:
            raise ValueError(
                f"--contig: {word!r} is neither a number of free residues, as 12 or 10-20, nor residues of the motif, "
                "as A7 or A5-25"
            )
    if not any(isinstance(part, Segment) for part in parts):
        raise ValueError(f"--contig {text}: names no residue of the motif, as A5-25 does; for free ones give --length")
    return parts


@dataclass(frozen=True)
class Contig:
    """What every chain of a run holds.

    | field | meaning |
    |---|---|
    | parts | what comes one after the other: free residues, or residues exactly as they are in the file |
    | least, most | residues of the whole chain, with what --length asks for |
    """

    parts: tuple[Free | Chain, ...]
    least: int
    most: int

    @cached_property
    def residues(self) -> Chain:
        """All that are held, in their order in the chain."""
        held = [part for part in self.parts if isinstance(part, Chain)]
        labels = tuple(label for part in held for label in part.labels)
        return Chain(np.concatenate([p.coordinates for p in held]), "".join(p.sequence for p in held), labels)

    def request(self, seed: int) -> BackboneRequest:
        """One chain: all ways to choose free residues with a length in bounds are as likely, and `seed` decides."""
        free = self._draw(np.random.default_rng((seed, 1)))
        places: list[int] = []
        length = 0
        for part in self.parts:
            size = len(part) if isinstance(part, Chain) else free.pop(0)
            if isinstance(part, Chain):
                places += range(length, length + size)
            length += size
        quaternions, positions = frames_of(torch.from_numpy(self.residues.coordinates))
        return BackboneRequest(seed, length, Motif(tuple(places), quaternions, positions))

    def _draw(self, random: np.random.Generator) -> list[int]:
        """How many residues each free part has."""
        ranges = [part for part in self.parts if isinstance(part, Free)]
        ways = [np.ones(1)]  # by the sum of the free parts from the last one backwards
        for part in reversed(ranges):
            choices = np.zeros(part.most + 1)
            choices[part.least :] = 1
            ways.append(np.convolve(ways[-1], choices))
        held = len(self.residues)
        sums = np.arange(len(ways[-1]))
        wanted = np.where((sums + held >= self.least) & (sums + held <= self.most), ways[-1], 0)
        rest = int(random.choice(sums, p=wanted / wanted.sum()))
        drawn = []
        for part, after in zip(ranges, ways[-2::-1], strict=True):
            sizes = np.arange(part.least, min(part.most, rest) + 1)
            left = rest - sizes
            shares = np.where(left < len(after), after[np.minimum(left, len(after) - 1)], 0)
            drawn.append(int(random.choice(sizes, p=shares / shares.sum())))
            rest -= drawn[-1]
        return drawn


def read_contig(text: str, path: Path, lengths: tuple[int, int] | None) -> Contig:
    """The contig of a command line; `lengths` are the least and the most residues of the whole chain, where given.

    Raises:
        OSError: no such file.
        ValueError: a contig or a file that cannot be read; residues that the file lacks, that are asked for twice, or
            that the free residues between them cannot join; lengths that the contig does not have.
    """
    parsed = parse_contig(text)
    chains = read_chains(path)
    chains = [chain for chain in chains if chain.where == chains[0].where]  # of the first model
    parts = [part if isinstance(part, Free) else _residues(part, chains, path) for part in parsed]
    _check_once([part for part in parsed if isinstance(part, Segment)], parts)
    _check_joints(parts)
    least = sum(len(part) if isinstance(part, Chain) else part.least for part in parts)
    most = sum(len(part) if isinstance(part, Chain) else part.most for part in parts)
    if lengths is not None:
        held = sum(len(part) for part in parts if isinstance(part, Chain))
        asked = f"--length {lengths[0]}" + ("" if lengths[0] == lengths[1] else f"-{lengths[1]}")
        if held > lengths[1]:
            raise ValueError(f"the motif has {held} residues, more than {asked}; ask for longer chains")
        if lengths[1] < least or lengths[0] > most:
            raise ValueError(f"--contig {text} makes {least} to {most} residues, {asked} others; change one of them")
        least, most = max(least, lengths[0]), min(most, lengths[1])
    return Contig(tuple(parts), least, most)


def with_motif(chain: Chain, places: Sequence[int], residues: Chain) -> Chain:
    """The chain with the atoms and letters of the motif at its places, exactly."""
    coordinates, letters = chain.coordinates.copy(), list(chain.sequence)
    coordinates[list(places)] = residues.coordinates
    for place, letter in zip(places, residues.sequence, strict=True):
        letters[place] = letter
    return replace(chain, coordinates=coordinates, sequence="".join(letters))


def _residues(segment: Segment, chains: Sequence[Chain], path: Path) -> Chain:
    """The residues of a segment, which must be one bonded run."""
    names = sorted({chain.name for chain in chains})
    runs = [chain for chain in chains if chain.name == segment.chain]
    if not runs:
        raise ValueError(f"{path}: has no chain {segment.chain}, for {segment} of --contig; it has {', '.join(names)}")
    ends = []
    for label in (segment.first, segment.last):
        found = [
            (run, place) for run, chain in enumerate(runs) for place, own in enumerate(chain.labels) if own == label
        ]
        if not found:
            raise ValueError(
                f"{path}: has no residue {segment.chain}{label} with N, CA and C, for {segment} of --contig; chain "
                f"{segment.chain} has {', '.join(f'{chain.labels[0]} to {chain.labels[-1]}' for chain in runs)}"
            )
        if len(found) > 1:
            raise ValueError(f"{path}: has {len(found)} residues {segment.chain}{label}; give a file with one of them")
        ends.append(found[0])
    (run, first), (other, last) = ends
    if (other, last) < (run, first):
        raise ValueError(f"--contig: {segment} goes backwards; write {segment.chain}{segment.last}-{segment.first}")
    if other != run:
        raise ValueError(
            f"{path}: residues are missing in {segment}, between {runs[run].labels[-1]} and {runs[run + 1].labels[0]}; "
            "ask for what is on both sides, with free residues between"
        )
    cut = slice(first, last + 1)
    chain = runs[run]
    return Chain(chain.coordinates[cut], chain.sequence[cut], chain.labels[cut], chain.name)


def _check_once(segments: Sequence[Segment], parts: Sequence[Free | Chain]) -> None:
    held = [part for part in parts if isinstance(part, Chain)]
    seen: dict[tuple[str, str], Segment] = {}
    for segment, part in zip(segments, held, strict=True):
        for label in part.labels:
            other = seen.setdefault((part.name, label), segment)
            if other is not segment:
                raise ValueError(
                    f"--contig: {other} and {segment} both have {part.name}{label}; give it to one of them"
                )


def _check_joints(parts: Sequence[Free | Chain]) -> None:
    """Free residues between two segments must be able to join them, however few are drawn."""
    last: Chain | None = None
    between = 0
    for part in parts:
        if isinstance(part, Free):
            between += part.least
            continue
        if last is not None:
            gap = float(np.linalg.norm(part.coordinates[0, 1] - last.coordinates[-1, 1]))
            bonded = float(np.linalg.norm(part.coordinates[0, 0] - last.coordinates[-1, 2])) <= BONDED
            needed = 0 if bonded else max(1, math.ceil(gap / STRETCHED) - 1)
            if between < needed:
                ends = f"{last.name}{last.labels[-1]} and {part.name}{part.labels[0]}"
                raise ValueError(
                    f"--contig: {ends} are {gap:.1f} A apart, which takes {needed} residues between them, and "
                    f"{between} may be drawn; ask for more"
                )
        last, between = part, 0
