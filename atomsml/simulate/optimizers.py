"""What relaxes atoms one structure at a time: OPTIMIZERS, by the names that settings and the command line take.

They are ASE's, which is imported when they start: the command line reads the dict before it knows whether any does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import ase
    from ase.filters import Filter
    from ase.optimize.optimize import Optimizer


@dataclass(frozen=True)
class ASEOptimizer:
    """A class of ase.optimize by its name."""

    name: str
    about: str  # for --help

    def start(self, target: ase.Atoms | Filter) -> Optimizer:
        """One that moves `target` and prints nothing."""
        import ase.optimize

        return cast("Optimizer", getattr(ase.optimize, self.name)(target, logfile=None))


OPTIMIZERS: dict[str, ASEOptimizer] = {
    "lbfgs": ASEOptimizer("LBFGS", "quick, at any size"),
    "bfgs": ASEOptimizer("BFGS", "follows no step uphill, but diagonalises a matrix of all coordinates"),
    "fire": ASEOptimizer("FIRE", "damped dynamics, slow and robust"),
}
