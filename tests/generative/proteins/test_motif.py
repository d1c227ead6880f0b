"""Contigs: what they mean, chains of the right lengths, exact atoms, and one clear line for what cannot be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from atomsml.generative.proteins.backbones import Backbones
from atomsml.generative.proteins.geometry import frames_of
from atomsml.generative.proteins.io import read_chains
from atomsml.generative.proteins.motif import Free, Segment, parse_contig, read_contig, with_motif
from tests.generative.proteins.coils import coil

DATA = Path(__file__).parents[2] / "data" / "proteins"
NASTY = DATA / "nasty.pdb"  # A -1 to 5 with 3A and 3B, A 7 to 9, A 12 to 13, B 1 to 2
WHOLE = DATA / "1guu.pdb.gz"  # A 1 to 50


def test_parts_of_a_contig() -> None:
    assert parse_contig("10-20, A5-25,12,A7,B-3-4,A52A-60") == [
        Free(10, 20),
        Segment("A", "5", "25"),
        Free(12, 12),
        Segment("A", "7", "7"),
        Segment("B", "-3", "4"),
        Segment("A", "52A", "60"),
    ]


def test_segments_are_found_by_their_numbers_in_the_file() -> None:
    contig = read_contig("A-1-3B,4,A8,5,B1-2", NASTY, None)
    found = contig.residues
    file = read_chains(NASTY)
    assert found.labels == (*file[0].labels[: file[0].labels.index("3B") + 1], "8", "1", "2")
    assert "3A" in found.labels
    assert found.sequence == file[0].sequence[: len(found) - 3] + file[1].sequence[1] + file[3].sequence
    request = contig.request(0)
    assert request.motif is not None
    first = len(found) - 3
    assert request.motif.places == (*range(first), first + 4, first + 10, first + 11)
    assert request.length == first + 12
    np.testing.assert_array_equal(request.motif.positions.numpy(), found.coordinates[:, 1])
    torch.testing.assert_close(request.motif.quaternions, frames_of(torch.from_numpy(found.coordinates))[0])


def test_free_residues_are_drawn_by_seed_and_add_up_to_the_length() -> None:
    contig = read_contig("0-2,A5-24,3-5,A30-35,0-2", WHOLE, (32, 32))  # 26 held, so 6 free: 3 to 5, and the rest
    drawn: Counter[tuple[int, int]] = Counter()
    for seed in range(1400):
        request = contig.request(seed)
        assert request.length == 32
        assert request.motif is not None
        first, second = request.motif.places[0], request.motif.places[20] - request.motif.places[19] - 1
        drawn[first, second] += 1
    ways = [(1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (0, 5), (1, 5)]  # what follows is 6 less both, from 0 to 2
    assert set(drawn) == set(ways)
    deviation = (1400 * (1 / 7) * (6 / 7)) ** 0.5
    assert all(abs(drawn[way] - 1400 / 7) < 5 * deviation for way in ways)


def test_without_a_length_every_part_is_drawn_evenly() -> None:
    contig = read_contig("10-12,A5-9", WHOLE, None)
    lengths = Counter(contig.request(seed).length for seed in range(3000))
    assert set(lengths) == {15, 16, 17}
    assert all(abs(count - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for count in lengths.values())
    assert (contig.least, contig.most) == (15, 17)


def test_atoms_of_a_motif_are_those_of_the_file() -> None:
    contig = read_contig("4,A5-24,6", WHOLE, None)
    chain = Backbones.from_coordinates([coil(30, 0)]).to_chains()[0]
    request = contig.request(0)
    assert request.motif is not None
    held = with_motif(chain, request.motif.places, contig.residues)
    file = read_chains(WHOLE)[0]
    np.testing.assert_array_equal(held.coordinates[4:24], file.coordinates[4:24])
    np.testing.assert_array_equal(held.coordinates[:4], chain.coordinates[:4])
    assert held.sequence == "GGGG" + file.sequence[4:24] + "GGGGGG"


@pytest.mark.parametrize(
    ("contig", "lengths", "said"),
    [
        ("10-20,A5+25", None, "'A5+25' is neither"),
        ("", None, "'' is neither"),
        ("20-10,A5", None, "write 10-20"),
        ("10-20", None, "names no residue of the motif"),
        ("A1-9", None, "residues are missing in A1-9, between 5 and 7"),
        ("A5-1", None, "A5-1 goes backwards; write A1-5"),
        (
            "A1-6",
            None,
            "has no residue A6 with N, CA and C, for A1-6 of --contig; chain A has -1 to 5, 7 to 9, 12 to 13",
        ),
        ("A100", None, "has no residue A100"),
        ("C1-5", None, "has no chain C, for C1-5 of --contig; it has A, B"),
        ("A1-3,20,A3-5", None, "A1-3 and A3-5 both have A3"),
        ("A1-2,0-9,A12-13", None, "which takes"),
        ("10,A1-5", (5, 5), "the motif has 7 residues, more than --length 5"),
        ("10-12,A1-5", (40, 50), "makes 17 to 19 residues, --length 40-50 others"),
    ],
)
def test_what_cannot_be_gets_one_line(contig: str, lengths: tuple[int, int] | None, said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        read_contig(contig, NASTY, lengths)
    assert said in str(refused.value)
