"""Bulk and shear moduli of binary crystals beside DFT (PBE, Materials Project).

    python -m benchmarks.properties.elasticity DATA [--models NAME FILE ...] [--count 200] [--minutes 15] [--docs]

A sample of DATA/crystals/mp_binary_elasticity.json.gz, the same for every model, of elements that all of them know:
`elastic_constants` relaxes the crystals from their DFT cells, as `atomsml elastic` does, and Hill's averages stand
beside those of DFT. A model that is slow does as many as the minutes allow; the table says how many. `--docs` puts the
table into docs/properties.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import torch
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from atomsml import AtomsMLCalculator
from atomsml.properties.elasticity.elastic import elastic_constants
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits
from benchmarks.shared.universal_models import chosen

PART = 10  # crystals between two looks at the clock
HEADER = ["", "of", "without answer", "K MAE", "median", "model/DFT", "G MAE", "median", "model/DFT", "CPU s"]


@dataclass(frozen=True)
class Crystal:
    name: str
    atoms: ase.Atoms
    moduli: tuple[float, float]  # K, G in GPa, Voigt-Reuss-Hill, of DFT


@dataclass(frozen=True)
class Found:
    """What a model says of the first crystals of the sample."""

    model: str
    moduli: dict[int, tuple[float, float]]  # by the number of the crystal
    reasons: dict[int, str]  # of those without an answer
    seconds: float

    @property
    def done(self) -> int:
        return len(self.moduli) + len(self.reasons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["universal-small"], help="names or files")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=15, help="of each model at most")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/properties.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    calculators = {Path(name).stem: AtomsMLCalculator(name, device="cpu") for name in arguments.models}
    known = set.intersection(*(set(each.potential.elements) for each in calculators.values()))
    crystals = sample(arguments.data / "crystals" / "mp_binary_elasticity.json.gz", known, arguments.count)
    found = [moduli(name, each, crystals, 60 * arguments.minutes) for name, each in calculators.items()]
    text = report(found, crystals)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties.md", "elasticity", text)


def sample(path: Path, known: set[int], count: int) -> list[Crystal]:
    """Those that can be done, of which chance takes some, the same ones each time."""
    crystals = []
    for row in json.loads(gzip.decompress(path.read_bytes())):
        atoms = AseAtomsAdaptor.get_atoms(Structure.from_dict(row["structure"]), msonable=False)
        plain = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
        if known.issuperset(plain.numbers):
            dft = row["bulk_modulus_vrh"], row["shear_modulus_vrh"]
            crystals.append(Crystal(f"{row['formula']} ({row['mp_id']})", plain, dft))
    return chosen(crystals, count)


def moduli(name: str, calculator: AtomsMLCalculator, crystals: list[Crystal], seconds: float) -> Found:
    """Hill's averages, in parts, until the time is over."""
    engine, begin = Engine.of(calculator), time.process_time()
    found, reasons = dict[int, tuple[float, float]](), dict[int, str]()
    for first in range(0, len(crystals), PART):
        if time.process_time() - begin > seconds:
            break
        part = [crystal.atoms for crystal in crystals[first : first + PART]]
        for i, each in elastic_constants(part, engine):
            if isinstance(each, Failure):
                reasons[first + i] = each.reason
            elif not each.tensor.stable:
                reasons[first + i] = "unstable"
            else:
                found[first + i] = each.tensor.bulk, each.tensor.shear
        print(f"{name}: {first + len(part)} of {len(crystals)}", file=sys.stderr)
    for i, reason in reasons.items():
        print(f"{name}: {crystals[i].name}: {reason}", file=sys.stderr)
    return Found(name, found, reasons, time.process_time() - begin)


def report(found: list[Found], crystals: list[Crystal]) -> str:
    dft = np.array([crystal.moduli for crystal in crystals])
    rows = []
    for each in found:
        numbers = sorted(each.moduli)
        columns = _columns(np.array([each.moduli[i] for i in numbers]), dft[numbers])
        rows.append([each.model, f"{each.done}", f"{len(each.reasons)}", *columns, three_digits(each.seconds)])
    middle = np.median(dft, axis=0)
    rows.append([f"K {middle[0]:.0f}, G {middle[1]:.0f} of all", f"{len(dft)}", "0", *_columns(middle, dft), ""])
    sizes = [len(crystal.atoms) for crystal in crystals]
    about = (
        f"{len(crystals)} crystals of {min(sizes)} to {max(sizes)} atoms, seeded, of the binaries with elastic "
        "constants of Materials Project (MatCalc-Bench). Absolute errors of Hill's averages, GPa, mean and median, and "
        f"the median of the ratios. {processor()}, one thread, torch {torch.__version__}."
    )
    return f"{about}\n\n{table(HEADER, rows)}\n{_reasons(found)}"


def _columns(found: np.ndarray, dft: np.ndarray) -> list[str]:
    """Of K, then of G."""
    columns = []
    for errors, ratios in zip(np.abs(found - dft).T, (found / dft).T, strict=True):
        columns += [f"{errors.mean():.1f}", f"{np.median(errors):.1f}", f"{np.median(ratios):.2f}"]
    return columns


def _reasons(found: list[Found]) -> str:
    """How often each, without the numbers in it."""
    lines = []
    for each in found:
        kinds = Counter(reason.split(":")[0] for reason in each.reasons.values())
        words = "; ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        lines.append(f"Without answer by {each.model}: {words or 'none'}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
