"""Deformations by the matrix exponential and its derivative, beside scipy's; on a CPU and as on other devices."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm, expm_frechet

from atomsml.simulate.measures import Frechet
from atomsml.testing import pretended_device


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_exponential_and_its_derivative(device: str) -> None:
    """Of strains from none to e^3, of which series and squarings have to do their utmost."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor([0.0, 1e-9, 0.03, 0.3, 1.0])[:, None, None]
    matrix = sizes * torch.randn(5, 3, 3, dtype=torch.float64, generator=random)
    gradient = (
        torch.randn(5, 3, 3, dtype=torch.float64, generator=random) * torch.tensor([1, 0, 1e-6, 1, 1e3])[:, None, None]
    )
    measure = Frechet()
    with pretended_device("cuda") as there:
        place = there if device == "cuda" else torch.device("cpu")
        deformation = measure.deformation(matrix.to(place))
        along = measure.along(matrix.to(place), deformation, gradient.to(place))
        found = deformation.cpu().numpy(), along.cpu().numpy()
    for l, g, d, a in zip(matrix.numpy(), gradient.numpy(), *found, strict=True):
        # with |L| up to 3 the terms of the series reach e^6 of the result, in units of the last place
        np.testing.assert_allclose(d, expm(l.T), rtol=0, atol=1e-13 * np.abs(expm(l)).max())
        theirs = expm_frechet(l.T, g, compute_expm=False)
        np.testing.assert_allclose(a, theirs, rtol=0, atol=1e-13 * np.abs(theirs).max())
