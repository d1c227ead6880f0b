"""Suite `posebusters`: the checks of the package PoseBusters for molecules without a pocket.

Buttenschoen, Morris, Deane, "PoseBusters: AI-based docking methods fail to generate physically valid poses or
generalise to novel sequences", Chem. Sci. 15, 3130 (2024). The package is installed separately; its own settings `mol`
say what passes. A molecule takes it about half a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import ase

from atomsml.generative.core.metrics import SuiteResult, fraction
from atomsml.generative.molecules.metrics.perception import Perceived, perceived_mol


def check_installed() -> None:
    """Refuse the suite where the package is missing.

    Raises:
        ValueError: says how to install it.
    """
    if find_spec("posebusters") is None:
        raise ValueError("the suite posebusters needs a package that is not installed: pip install posebusters")


def bust(molecules: Sequence[ase.Atoms], perceived: Sequence[Perceived]) -> Iterator[dict[str, bool]]:
    """What each molecule passes, by the name of the check; nothing without bonds."""
    buster = import_module("posebusters").PoseBusters(config="mol")
    for atoms, found in zip(molecules, perceived, strict=True):
        if found.reason:
            yield {}
        else:
            row = buster.bust([perceived_mol(atoms, found)], None, None).iloc[0]
            yield {str(name): bool(passed) for name, passed in row.items()}


def posebusters(perceived: Sequence[Perceived], busted: Sequence[dict[str, bool]]) -> SuiteResult:
    """The fraction that passes everything, and each check; molecules without bonds pass nothing."""
    passed = Counter(name for row in busted for name, good in row.items() if good)
    names = dict.fromkeys(name for row in busted for name in row)
    broken = [", ".join(name for name, good in row.items() if not good) for row in busted]
    failures = [found.reason or reason for found, reason in zip(perceived, broken, strict=True)]
    everything = {"pass": fraction(failures.count(""), len(busted))}
    return SuiteResult(
        version=f"posebusters-{version('posebusters')}",
        thresholds={"settings": "mol"},
        metrics=everything | {name: fraction(passed[name], len(busted)) for name in names},
        failures=tuple(failures),
    )
