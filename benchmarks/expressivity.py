"""What every architecture can tell apart, with how many layers or which degree of features.

    python benchmarks/expressivity.py [--docs]

Runs the experiments of `atomsml.expressivity` on every architecture of `POTENTIALS` and some variants, about a minute
each, and prints the table; --docs puts it into docs/expressivity.md.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from reporting import DOCS, replace_section, table

from atomsml.expressivity import experiments
from atomsml.potentials import POTENTIALS

# a network with random weights moves atoms little: through a chain it would not rise above rounding errors
DEFAULTS: dict[str, dict[str, Any]] = {"egnn": {"coordinate_range": 30.0}}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mace": [{"correlation": 1}, {"correlation": 2}, {"product": "gaunt"}, {"product": "gaunt", "correlation": 4}],
    "nequip": [{"parity": False}],
    "facet": [{"order": 3}, {"order": 4}],
    "escn": [{"mmax": 1}],
    "equiformer_v2": [{"mmax": 1}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/expressivity.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = experiments()
    rows = []
    for name, architecture in POTENTIALS.items():
        for variant in ({}, *VARIANTS.get(name, [])):
            changes = DEFAULTS.get(name, {}) | variant
            title = ", ".join([f"`{name}`", *(f"{key} {value}" for key, value in variant.items())])
            counts = (experiment.fewest(architecture, changes) for experiment in found.values())
            rows.append([title, *("-" if count is None else str(count) for count in counts)])
            print(*rows[-1], sep="  ", flush=True)
    text = table(["", *(f"{name}: {experiment.varied}" for name, experiment in found.items())], rows)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "expressivity.md", "experiments", text)


if __name__ == "__main__":
    main()
