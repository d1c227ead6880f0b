"""What every summary says of the libraries with which a result was made."""

from __future__ import annotations

import platform

import ase
import numpy as np
import torch

from atomsml import __version__


def library_versions() -> dict[str, str]:
    """Versions by name, so that a run can be repeated."""
    return {
        "atomsml": __version__,
        "torch": str(torch.__version__),
        "ase": ase.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
