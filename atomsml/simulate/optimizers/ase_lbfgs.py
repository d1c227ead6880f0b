"""Limited-memory BFGS that leaves saddle points."""

from __future__ import annotations

from typing import Any

from ase.optimize import LBFGS


class DownhillLBFGS(LBFGS):
    """ASE's LBFGS in which every remembered step has a positive curvature.

    L-BFGS (Liu and Nocedal, Math. Program. 45, 503 (1989)) builds an inverse Hessian from steps s and changes of the
    gradient y, which is positive definite only where all s.y > 0. Where the energy curves downwards along a step, the
    pair enters as (s, -y), as BFGS of ASE takes the absolute values of the eigenvalues: the next step then goes down
    instead of back to the saddle. Without line search nothing else makes s.y positive.
    """

    def update(self, *step: Any) -> None:
        super().update(*step)
        memory = self.state
        if memory.rho and memory.rho[-1] < 0:
            memory.y[-1], memory.rho[-1] = -memory.y[-1], -memory.rho[-1]
