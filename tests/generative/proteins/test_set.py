from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atomsml.generative.core.set import hold_out
from atomsml.generative.core.training.loader import SampleBatchConfig, SampleLoader
from atomsml.generative.proteins.backbones import Backbones
from atomsml.generative.proteins.io import read_chains, write_chains
from atomsml.generative.proteins.set import COMPACT, read_backbones

DATA = Path(__file__).parents[2] / "data" / "proteins"
NAMES = ("1aap", "1brf", "1guu")
FILES = [DATA / f"{name}.pdb.gz" for name in NAMES]


@pytest.fixture(scope="module")
def samples():
    return read_backbones(FILES)


def test_windows_are_compact_pieces_of_the_chains(samples):
    assert len(samples) > len(FILES)
    for sample, (chain, first, size) in enumerate(samples.windows.tolist()):
        piece = samples.chains[chain].coordinates[first : first + size]
        assert len(piece) == size == samples.sizes[sample] >= 40
        assert np.linalg.norm(piece[:-1, 2] - piece[1:, 0], axis=1).max() < 2
        radius = np.sqrt(np.trace(np.cov(piece[:, 1].T, bias=True)))  # of the covariance of places
        assert radius <= COMPACT * 2.96 * size**0.318


def test_whole_chains_are_among_them(samples):
    whole = [size for chain, first, size in samples.windows.tolist() if size == len(samples.chains[chain])]
    assert sorted(whole) == sorted(map(len, samples.chains))


def test_a_batch_has_the_frames_of_the_windows(samples):
    rows = np.array([0, len(samples) - 1, 3])
    batch = samples.batch(rows)
    pieces = [samples.chains[c].coordinates[first : first + size] for c, first, size in samples.windows[rows].tolist()]
    expected = Backbones.from_coordinates(pieces)
    torch.testing.assert_close(batch.quaternions, expected.quaternions)
    torch.testing.assert_close(batch.positions, expected.positions, atol=1e-5, rtol=0)  # float32 of places up to 30 A
    assert torch.equal(batch.mask, expected.mask)
    assert batch.sizes.tolist() == samples.sizes[rows].tolist()


def test_what_is_held_out_shares_no_chain(samples):
    train, valid = hold_out(samples, 0.3, 0)
    assert not set(train.families.tolist()) & set(valid.families.tolist())
    assert len(train) + len(valid) == len(samples)
    assert sorted([*train.hashes(), *valid.hashes()]) == sorted(samples.hashes())


def test_a_loader_goes_through_all_windows(samples):
    loader = SampleLoader(samples, SampleBatchConfig(samples=4), seed=0)
    assert sum(len(batch) for batch in loader.epoch(0)) == len(samples)
    assert sorted(np.concatenate(loader.plan(0))) == list(range(len(samples)))


def test_hashes_follow_the_content_alone(samples):
    turned = read_backbones(FILES[::-1])
    assert sorted(turned.hashes()) == sorted(samples.hashes())
    assert len(set(samples.hashes().tolist())) == len(samples)


def test_the_same_chain_in_two_files_counts_once(tmp_path, samples):
    (chain,) = read_chains(FILES[0])
    write_chains(tmp_path / "again.pdb", [chain])
    doubled = read_backbones([*FILES, tmp_path])
    assert len(doubled) == len(samples)
    assert "chains left out that stand there twice: 1" in doubled.warnings


def test_of_several_models_the_first_counts(tmp_path):
    chains = [chain for path in FILES for chain in read_chains(path)]
    write_chains(tmp_path / "ensemble.pdb", chains)
    first = read_backbones([tmp_path / "ensemble.pdb"])
    assert [len(chain) for chain in first.chains] == [len(chains[0])]
    assert "chains left out that are of a further model of their file: 2" in first.warnings


def test_bad_files_are_named_and_skipped(tmp_path, samples):
    for path in FILES:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "z.pdb").write_text("")
    (tmp_path / "cut.pdb.gz").write_bytes(FILES[0].read_bytes()[:900])
    found = read_backbones([tmp_path])
    np.testing.assert_array_equal(found.hashes(), samples.hashes())
    cut, empty = found.warnings
    assert cut.startswith(f"left out {tmp_path / 'cut.pdb.gz'}: cannot be read")
    assert empty.startswith(f"left out {tmp_path / 'z.pdb'}: holds no backbone")


def test_a_stretched_chain_is_no_sample(tmp_path):
    (chain,) = read_chains(FILES[0])
    stretched = type(chain)(chain.coordinates * [1, 1, 1.2], chain.sequence, chain.labels)
    write_chains(tmp_path / "a.pdb", [stretched])
    wide = read_backbones([tmp_path / "a.pdb"])
    assert len(wide) < len(read_backbones(FILES[:1]))


@pytest.mark.parametrize("content", [None, "", "REMARK\n"])
def test_nothing_to_learn_from_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "a.pdb").write_text(content)
    with pytest.raises(ValueError, match=r"no compact chain of 40 bonded residues|has no file of proteins") as error:
        read_backbones([tmp_path])
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_backbones([tmp_path / "missing"])
