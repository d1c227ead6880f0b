"""How systems find a minimum: OPTIMIZERS, by the names that settings and the command line take, a file each.

They need torch, and are imported when they are asked for: the command line reads the dict before it needs any.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from atomsml.simulate.optimizers.optimizer import Optimizer


@dataclass(frozen=True)
class Entry:
    """An Optimizer, by its module here and the name of its class."""

    module: str
    name: str
    about: str  # for --help

    def make(self) -> Optimizer[Any]:
        """One with its default parameters."""
        return cast("Optimizer[Any]", getattr(import_module(f"{__name__}.{self.module}"), self.name)())


OPTIMIZERS: dict[str, Entry] = {
    "lbfgs": Entry("lbfgs", "LBFGS", "quick, at any size"),
    "cg": Entry("cg", "ConjugateGradients", "conjugate gradients, line by line"),
    "fire": Entry("fire", "FIRE", "damped dynamics, slow and robust"),
}
