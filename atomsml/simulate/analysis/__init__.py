"""What a trajectory says: an analysis a file, and ANALYSES, by the names that users give.

Each file has functions of arrays, and `analyze`, which asks a Motion for these arrays. A new one is a file here and a
line in the dict, which holds names: the command line reads it before it knows whether it needs anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
    "structure": NamedAnalysis("local_structure", "fcc, hcp, bcc, icosahedral or diamond around each atom"),
    "bonds": NamedAnalysis("bond_drift", "lengths of bonds, and how they drift"),
}


class Told(NamedTuple):
    """What analyses find of a system, and why others find nothing, by their names."""

    name: str  # of the system
    frames: int
    found: dict[str, Findings]
    refused: dict[str, str]


def analyze_file(path: Path, names: Sequence[str], skip: float = 0.0, spacing: float | None = None) -> list[Told]:
    """Each system of a trajectory by some of ANALYSES; arguments and errors as `read_motions`.

    Raises:
        ValueError: a trajectory without frames, too.
    """
    from atomsml.simulate.analysis.motion import read_motions

    told = []
    for motion in read_motions(path, skip, spacing):
        found: dict[str, Findings] = {}
        refused: dict[str, str] = {}
        for name in names:
            try:
                found[name] = ANALYSES[name](motion)
            except ValueError as error:
                refused[name] = str(error)
        told.append(Told(motion.name, len(motion.positions), found, refused))
    if not told:
        raise ValueError(f"{path} has no frames")
    return told
