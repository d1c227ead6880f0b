"""Suite "secondary_structure": how much of the chains is helix and strand by DSSP, and which way helices turn.

| metric | what it is |
|---|---|
| helix | share of residues in helices of 4, 3 or 5 residues a turn |
| strand | share of residues in ladders or bridges |
| coil | share of all others; turns and bends are among them |
| left_handed | share of the CA-CA-CA-CA inside helices that turn to the left; of right-handed ones none do |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atomsml.generative.core.metrics import SuiteResult
from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.metrics import dssp
from atomsml.generative.proteins.metrics.geometry import share, shares

VERSION = "secondary-structure-1"
THRESHOLDS = {
    "hydrogen_bond": dssp.BONDED,
    "strength": dssp.STRENGTH,
    "n_h": dssp.N_H,
    "reach": dssp.REACH,
    "bulge": list(dssp.BULGE),
}


def secondary_structure(chains: Sequence[Chain]) -> SuiteResult:
    """Metrics over chains of finite coordinates."""
    letters = [np.array(list(dssp.assign(chain.coordinates, chain.sequence))) for chain in chains]
    helix, strand = ([np.isin(each, list(kind)) for each in letters] for kind in (dssp.HELIX, dssp.STRAND))
    metrics = {
        "helix": share(helix),
        "strand": share(strand),
        "coil": share([each == dssp.COIL for each in letters]),
        "left_handed": share([turns_left(chain, flags) for chain, flags in zip(chains, helix, strict=True)]),
    }
    return SuiteResult(VERSION, THRESHOLDS, metrics, (), {"helix": shares(helix), "strand": shares(strand)})


def turns_left(chain: Chain, helix: np.ndarray) -> np.ndarray:
    """Of every four neighbouring residues that are all in helices: whether their CA turn to the left."""
    steps = np.diff(chain.coordinates[:, 1], axis=0)
    if len(steps) < 3:
        return np.zeros(0, bool)
    volumes = (np.cross(steps[:-2], steps[1:-1]) * steps[2:]).sum(axis=-1)
    inside = helix[:-3] & helix[1:-2] & helix[2:-1] & helix[3:]
    return volumes[inside] < 0
