r"""Suite "geometry": do residues follow each other as those of a protein do, and is the chain of the right hand.

| metric | what it is |
|---|---|
| ca_ca | share of neighbours whose CA are 3.80 +- 0.20 A apart; those of a cis bond, 2.95 A, are not |
| unbroken | share of chains whose C and next N are within 2.5 A everywhere: peptide bonds by DSSP's rule |
| bond_rms, angle_rms | root mean square of z = (value - mean) / deviation, with means and deviations of `IDEAL` |
| bond_outliers, angle_outliers | share of them with \|z\| above 4, as MolProbity counts (Acta Cryst. D 66, 12, 2010) |
| cis, twisted | share of peptide bonds with \|omega\| below 30 degrees; between 30 and 150 degrees |
| positive_phi | share of residues with phi above 0 |
| mirror_images | share of chains in which more than half of the phi are above 0 |

N, CA, C and O of one residue have no chirality without CB. What tells a chain from its mirror image is the sign of phi,
which L-residues other than glycine and asparagine hardly ever have above 0. So a chain as a whole is called a mirror
image, never a residue. Which way helices turn is in secondary_structure.py.

Means and deviations are those of residues that are neither Gly nor Pro (Engh and Huber, International Tables for
Crystallography F, chapter 18.3, 2001). Where atoms were placed from ideal frames, N-CA, CA-C, C=O and N-CA-C are exact
by construction: only C-N and the angles beside it say something about the generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from atomsml.generative.core.metrics import Metric, SuiteResult, fraction, ratio
from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.geometry import CA_CA, torsions

VERSION = "geometry-1"
CA_CA_WITHIN = 0.20  # Angstrom
PEPTIDE_BOND = 2.5  # Angstrom, C-N: longer ones are breaks
OUTLIER = 4.0  # deviations
CIS, TRANS = 30.0, 150.0  # degrees of |omega|
MIRRORED = 0.5  # share of residues with phi above 0
IDEAL = {  # mean and deviation, Angstrom and degrees
    "N-CA": (1.459, 0.020),
    "CA-C": (1.525, 0.026),
    "C=O": (1.229, 0.019),
    "C-N": (1.336, 0.023),
    "N-CA-C": (111.0, 2.7),
    "CA-C=O": (120.1, 2.1),
    "CA-C-N": (117.2, 2.2),
    "O=C-N": (122.7, 1.6),
    "C-N-CA": (121.7, 2.5),
}
BONDS, ANGLES = tuple(IDEAL)[:4], tuple(IDEAL)[4:]
THRESHOLDS = {
    "ca_ca": [CA_CA - CA_CA_WITHIN, CA_CA + CA_CA_WITHIN],
    "peptide_bond": PEPTIDE_BOND,
    "outlier": OUTLIER,
    "cis": CIS,
    "trans": TRANS,
    "mirrored": MIRRORED,
    "ideal": {name: list(values) for name, values in IDEAL.items()},
}


def geometry(chains: Sequence[Chain]) -> SuiteResult:
    """Metrics over chains of finite coordinates; `failures` says where one is broken and if it is a mirror image."""
    steps = [np.linalg.norm(np.diff(chain.coordinates[:, 1], axis=0), axis=-1) for chain in chains]
    angles = [phi_psi_omega(chain) for chain in chains]
    near = [np.abs(lengths - CA_CA) <= CA_CA_WITHIN for lengths in steps]
    omegas = [np.abs(values[:-1, 2]) for values in angles]
    positive = [values[1:, 0] > 0 for values in angles]
    scores = [z_scores(chain) for chain in chains]
    mirrored = [is_mirror_image(values[:, 0]) for values in angles]
    breaks = [breaks_of(chain.coordinates) for chain in chains]
    metrics = {
        "ca_ca": share(near),
        "unbroken": fraction(sum(not len(places) for places in breaks), len(chains)),
        **_of_scores("bond", scores, BONDS),
        **_of_scores("angle", scores, ANGLES),
        "cis": share([omega < CIS for omega in omegas]),
        "twisted": share([(omega >= CIS) & (omega <= TRANS) for omega in omegas]),
        "positive_phi": share(positive),
        "mirror_images": fraction(sum(mirrored), len(chains)),
    }
    reasons = [_reason(*each) for each in zip(chains, breaks, mirrored, strict=True)]
    columns = {"ca_ca": shares(near), "positive_phi": shares(positive)}
    types = {name: root_mean_square([score[name] for score in scores], "deviations") for name in IDEAL}
    return SuiteResult(VERSION, THRESHOLDS, metrics, tuple(reasons), columns, types)


def phi_psi_omega(chain: Chain) -> np.ndarray:
    """(residues, 3) in degrees, NaN where an end lacks one; omega is of the bond to the next residue."""
    return torch.rad2deg(torsions(torch.from_numpy(np.asarray(chain.coordinates, np.float64)))).numpy()


def breaks_of(coordinates: np.ndarray) -> np.ndarray:
    """Places i whose C is farther than `PEPTIDE_BOND` from the N of i + 1, of (residues, 4, 3)."""
    lengths = _length(coordinates[:-1, 2], coordinates[1:, 0])
    return np.flatnonzero(~(lengths <= PEPTIDE_BOND))


def is_mirror_image(phi: np.ndarray) -> bool:
    """Whether most of the (residues,) angles are positive; NaN counts neither way."""
    known = phi[np.isfinite(phi)]
    return len(known) > 0 and float((known > 0).mean()) > MIRRORED


def z_scores(chain: Chain) -> dict[str, np.ndarray]:
    """(value - mean) / deviation of every bond and angle of `IDEAL`; of those to the next residue, one fewer."""
    n, ca, c, o = np.asarray(chain.coordinates, np.float64).transpose(1, 0, 2)
    after = n[1:]
    values = {
        "N-CA": _length(n, ca),
        "CA-C": _length(ca, c),
        "C=O": _length(c, o),
        "C-N": _length(c[:-1], after),
        "N-CA-C": _angle(n, ca, c),
        "CA-C=O": _angle(ca, c, o),
        "CA-C-N": _angle(ca[:-1], c[:-1], after),
        "O=C-N": _angle(o[:-1], c[:-1], after),
        "C-N-CA": _angle(c[:-1], after, ca[1:]),
    }
    return {name: (values[name] - mean) / deviation for name, (mean, deviation) in IDEAL.items()}


def share(flags: Sequence[np.ndarray]) -> Metric:
    """How many of the flags of all chains are set; the interval is over chains, whose residues are not independent."""
    return ratio(np.array([each.sum() for each in flags], float), np.array([each.size for each in flags], float))


def shares(flags: Sequence[np.ndarray]) -> tuple[float, ...]:
    """How many of the flags of each chain are set; NaN of none."""
    return tuple(float(each.mean()) if each.size else math.nan for each in flags)


def root_mean_square(values: Sequence[np.ndarray], unit: str) -> Metric:
    """Over the values of all chains; the interval is over chains."""
    squares = np.array([(each**2).sum() for each in values], float)
    found = ratio(squares, np.array([each.size for each in values], float))
    value, low, high = (math.sqrt(square) for square in (found.value, found.low, found.high))
    return Metric(value, low, high, found.of, unit)


def _of_scores(kind: str, scores: Sequence[Mapping[str, np.ndarray]], names: Sequence[str]) -> dict[str, Metric]:
    all_of = [np.concatenate([score[name] for name in names]) for score in scores]
    return {
        f"{kind}_rms": root_mean_square(all_of, "deviations"),
        f"{kind}_outliers": share([np.abs(each) > OUTLIER for each in all_of]),
    }


def _reason(chain: Chain, breaks: np.ndarray, mirrored: bool) -> str:
    places = ", ".join(chain.labels[place] for place in breaks)
    found = [f"broken after {places}"] if places else []
    return "; ".join([*found, *(["a mirror image"] if mirrored else [])])


def _length(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(b - a, axis=-1)


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Of a-b-c, in degrees."""
    cosine = ((a - b) * (c - b)).sum(axis=-1) / (_length(a, b) * _length(c, b))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
