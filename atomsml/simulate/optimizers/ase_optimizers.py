"""What relaxes atoms one structure at a time: ASE_OPTIMIZERS, by the names that settings and the command line take.

They are optimizers of ASE, which is imported when they start: the command line reads the dict before it knows whether
any does.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import ase
    from ase.filters import Filter
    from ase.optimize.optimize import Optimizer


@dataclass(frozen=True)
class ASEOptimizer:
    """A subclass of ASE's Optimizer, by its module and name."""

    module: str
    name: str
    about: str  # for --help

    def start(self, target: ase.Atoms | Filter) -> Optimizer:
        """One that moves `target` and prints nothing."""
        return cast("Optimizer", getattr(import_module(self.module), self.name)(target, logfile=None))


ASE_OPTIMIZERS: dict[str, ASEOptimizer] = {
    "lbfgs": ASEOptimizer("atomsml.simulate.optimizers.ase_lbfgs", "DownhillLBFGS", "quick, at any size"),
    "bfgs": ASEOptimizer(
        "ase.optimize", "BFGS", "follows no step uphill, but diagonalises a matrix of all coordinates"
    ),
    "fire": ASEOptimizer("ase.optimize", "FIRE", "damped dynamics, slow and robust"),
}
