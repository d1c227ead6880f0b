"""Equivariant interatomic potentials and generators for molecules and materials.

The public names are imported on first use, so that `import atomsml` (and `atomsml --help`) does not wait for torch.
"""

from importlib import import_module
from time import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomsml.graph import AtomicGraph as AtomicGraph
    from atomsml.interfaces.ase import AtomsMLCalculator as AtomsMLCalculator
    from atomsml.interfaces.predict import predict as predict
    from atomsml.modelfile.load import load as load
    from atomsml.potential import evaluate as evaluate

__version__ = "0.1.0"
IMPORTED = time()  # source files that are younger are not what runs in this process

_HOME_OF = {
    "AtomicGraph": "atomsml.graph",
    "AtomsMLCalculator": "atomsml.interfaces.ase",
    "evaluate": "atomsml.potential",
    "load": "atomsml.modelfile",
    "predict": "atomsml.interfaces.predict",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'atomsml' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOME_OF, "__version__"])
