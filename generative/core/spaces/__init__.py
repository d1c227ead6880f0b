"""Spaces, where the fields of a generator live, by name."""

from __future__ import annotations

from atomsml.generative.core.spaces.base import Space
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.core.spaces.torus import Circle, Torus

SPACES: dict[str, type[Space]] = {
    "euclidean": Euclidean,
    "centered-positions": CenteredPositions,
    "torus": Torus,
    "circle": Circle,
    "so3": SO3,
    "categorical": Categorical,
}
