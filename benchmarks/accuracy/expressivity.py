"""What every architecture can tell apart, with how many layers or which degree of features.

    python -m benchmarks.accuracy.expressivity [--docs]

Runs the experiments of `atomsml.testing.expressivity` on every architecture of `POTENTIALS` and some variants, half a
minute each, and prints the table; --docs puts it into docs/expressivity.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch

from atomsml.potential import Potential
from atomsml.potentials import POTENTIALS
from atomsml.testing.expressivity import CLEAR, Experiment, experiments
from benchmarks.shared.reporting import DOCS, replace_section, table

# fields that go without saying, by row
BESIDE: dict[str, dict[str, Any]] = {
    # a network with random weights moves atoms little: through a chain it would not rise above rounding errors
    "`egnn`": {"coordinate_range": 30.0},
    **{f"`facet`{variant}": {"num_bessel": None} for variant in ("", ", order 3", ", order 4")},
    # a grid whose error is as small as rounding
    "`facet`, pointwise mlp": {"grid": (48, 47)},
    "`egnn`, paper True": {"num_bessel": None, "readout_channels": None},
    "`equiformer_v2`, paper True, activation gate": {"num_bessel": None},
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mace": [{"correlation": 1}, {"correlation": 2}, {"product": "gaunt"}, {"product": "gaunt", "correlation": 4}],
    "nequip": [{"parity": True}, {"inversion": False}],
    "facet": [{"order": 3}, {"order": 4}, {"pointwise": "mlp"}],
    "egnn": [{"paper": True}],
    "escn": [{"mmax": 1}],
    "equiformer_v2": [{"mmax": 1}, {"paper": True, "activation": "gate"}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/expressivity.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found, separations, rows = experiments(), [], []
    for name, architecture in POTENTIALS.items():
        for variant in ({}, *VARIANTS.get(name, [])):
            cells = [", ".join([f"`{name}`", *(f"{key} {value}" for key, value in variant.items())])]
            for experiment in found.values():
                fewest, tried = search(experiment, architecture, BESIDE.get(cells[0], {}) | variant)
                cells.append("-" if fewest is None else str(fewest))
                separations += tried
            rows.append(cells)
            print(*cells, sep="  ", flush=True)
    text = table(["", *(f"{name}: {experiment.varied}" for name, experiment in found.items())], rows)
    same, different = ([x for x in separations if (x > CLEAR) == above] for above in (False, True))
    text += (
        f"\nIn units of the rounding error, energies that count as equal differed by {max(same):.2g} at most, "
        f"those that count as different by {min(different):.1e} at least.\n"
    )
    print(text)
    if arguments.docs:
        replace_section(DOCS / "expressivity.md", "experiments", text)


def search(
    experiment: Experiment, architecture: type[Potential], changes: Mapping[str, Any]
) -> tuple[int | None, list[float]]:
    """The fewest layers, or lowest degree, with which a pair is told apart, and the separations up to there."""
    tried: list[float] = []
    for count in range(1, experiment.most + 1):
        tried.append(experiment.separation(architecture, count, changes))
        if tried[-1] > CLEAR:
            return count, tried
    return None, tried


if __name__ == "__main__":
    main()
