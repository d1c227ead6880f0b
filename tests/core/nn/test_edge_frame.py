"""Edge frames against the Wigner matrices and the harmonics that they must turn."""

import pytest
import torch

from atomsml.nn.edge_frame import EdgeFrames, edge_components, edge_rotation
from atomsml.o3 import spherical_harmonics, wigner_d

POLES = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1e-9]])]).double()


@pytest.fixture
def vectors() -> torch.Tensor:
    """Along the axes, where the roll jumps, and anywhere."""
    random = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([POLES, random])


def test_components() -> None:
    assert edge_components(2, 1) == ((0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, -1), (2, -1))


def test_the_edge_becomes_the_polar_axis(vectors: torch.Tensor) -> None:
    rotation = edge_rotation(vectors)
    turned = (rotation @ vectors[:, :, None]).squeeze(2)
    length = vectors.norm(dim=1)
    torch.testing.assert_close(turned, length[:, None] * torch.tensor([0.0, 1.0, 0.0]).double())
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(vectors)).double())


@pytest.mark.parametrize(("lmax", "mmax"), [(0, 0), (3, 0), (3, 1), (6, 2), (4, 4), (8, 8)])
def test_rows_of_the_wigner_matrices(lmax: int, mmax: int, vectors: torch.Tensor) -> None:
    frames = EdgeFrames.from_vectors(vectors, lmax, mmax)
    rotation = edge_rotation(vectors)
    for l, rows in enumerate(frames.wigner):
        kept = min(l, mmax)
        torch.testing.assert_close(rows, wigner_d(l, rotation)[:, l - kept : l + kept + 1], rtol=0, atol=1e-12)


def test_frames_of_rotations_have_derivatives_by_all_of_the_rotation(vectors: torch.Tensor) -> None:
    """Those of `edge_rotation` are the frames of the edges; by finite differences, the roll counts."""
    away = vectors[len(POLES) :][:3].requires_grad_()  # from where the roll jumps

    def rows(vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return EdgeFrames.from_rotations(edge_rotation(vectors), 3, 2).wigner

    for found, expected in zip(rows(vectors), EdgeFrames.from_vectors(vectors, 3, 2).wigner, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: rows(x)[1:], (away,))


def test_rotate_in_turns_harmonics(vectors: torch.Tensor) -> None:
    """The harmonics of the edge itself have order m = 0 alone; those of another direction are turned."""
    lmax, mmax = 4, 2
    frames = EdgeFrames.from_vectors(vectors, lmax, mmax)
    index = torch.arange(len(vectors))
    own = frames.rotate_in(spherical_harmonics(lmax, vectors)[..., None], index).squeeze(2)
    expected = [(2 * l + 1) ** 0.5 * (m == 0) for l, m in frames.components]
    torch.testing.assert_close(own, torch.tensor(expected, dtype=own.dtype).expand_as(own), rtol=0, atol=1e-12)
    other = vectors.flip(0)
    turned = (edge_rotation(vectors) @ other[:, :, None]).squeeze(2)
    rows = [l * l + l + m for l, m in frames.components]
    found = frames.rotate_in(spherical_harmonics(lmax, other)[..., None], index).squeeze(2)
    torch.testing.assert_close(found, spherical_harmonics(lmax, turned)[:, rows], rtol=0, atol=1e-12)


def test_rotate_out_is_the_transpose(vectors: torch.Tensor) -> None:
    """<rotate_in(x), y> = <x, rotate_out(y)>, and with every order kept there and back is the identity."""
    generator = torch.Generator().manual_seed(1)
    frames = EdgeFrames.from_vectors(vectors, 3, 2)
    index = torch.arange(len(vectors)) % 5
    x = torch.randn(5, 16, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(len(vectors), len(frames.components), 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((frames.rotate_in(x, index) * y).sum(), (x * frames.rotate_out(y, index, 5)).sum())
    full = EdgeFrames.from_vectors(vectors, 3, 3)
    features = torch.randn(len(vectors), 16, 2, generator=generator, dtype=torch.float64)
    own = torch.arange(len(vectors))
    torch.testing.assert_close(full.rotate_out(full.rotate_in(features, own), own, len(vectors)), features)


def test_rows_are_summed(vectors: torch.Tensor) -> None:
    frames = EdgeFrames.from_vectors(vectors, 2, 1)
    index = torch.stack([torch.arange(len(vectors)) % 5, torch.arange(len(vectors)) % 3])
    x = torch.randn(5, 9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(frames.rotate_in(x, index), sum(frames.rotate_in(x, rows) for rows in index))


def test_orders_beyond_the_degree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mmax must lie in 0\.\.lmax = 2, got 3"):
        EdgeFrames.from_vectors(POLES, 2, 3)
