"""ASE's LBFGS with the scale that ours has."""

import numpy as np
from ase.optimize import LBFGS
from scipy.sparse import eye_array


class ScaledLBFGS(LBFGS):
    """Begins its recursion with the latest s.y / y.y instead of a constant (Nocedal and Wright, 2006, eq. 7.20)."""

    def update(self, pos: np.ndarray, forces: np.ndarray, r0: np.ndarray, f0: np.ndarray) -> None:
        super().update(pos, forces, r0, f0)
        if self.state.y:
            s, y = self.state.s[-1], self.state.y[-1]
            self.state.H0 = (s @ y) / (y @ y) * eye_array(len(y))
