"""What a trajectory says: an analysis a file, and ANALYSES, by the names that users give.

Each file has functions of arrays, and `analyze`, which asks a Motion for these arrays. A new one is a file here and a
line in the dict, which holds names: the command line reads it before it knows whether it needs anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atomsml.simulate.analysis.findings import Findings
    from atomsml.simulate.analysis.motion import Motion


@dataclass(frozen=True)
class NamedAnalysis:
    """An analysis by its module in this folder."""

    module: str
    about: str  # for --help

    def __call__(self, motion: Motion) -> Findings:
        """
        Raises:
            ValueError: the trajectory cannot give it; says why.
        """
        findings: Findings = import_module(f"atomsml.simulate.analysis.{self.module}").analyze(motion)
        return findings


ANALYSES: dict[str, NamedAnalysis] = {
    "rdf": NamedAnalysis("rdf", "radial distribution functions"),
    "coordination": NamedAnalysis("coordination", "neighbours within the first shell"),
    "msd": NamedAnalysis("msd", "mean square displacements and diffusion"),
    "vacf": NamedAnalysis("vacf", "autocorrelation of velocities, vibrational density of states"),
    "density": NamedAnalysis("density", "density and volume"),
    "heat-capacity": NamedAnalysis("heat_capacity", "heat capacity from fluctuations of the energy"),
    "bonds": NamedAnalysis("bond_drift", "lengths of bonds, and how they drift"),
}


def analyze(motion: Motion, names: Sequence[str] = tuple(ANALYSES)) -> tuple[dict[str, Findings], dict[str, str]]:
    """What some analyses find, and why others find nothing, by their names."""
    found, refused = {}, {}
    for name in names:
        try:
            found[name] = ANALYSES[name](motion)
        except ValueError as error:
            refused[name] = str(error)
    return found, refused
