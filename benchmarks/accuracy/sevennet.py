"""SevenNet checkpoints in atomsml: parity with sevenn, what trimming does, and speed.

    python -m benchmarks.accuracy.sevennet -o FOLDER [--only parity trim speed] [--data FILE] [--docs]

sevenn 0.13.0, in the environment .venv-sevenn (`make sevenn`), brings the checkpoints. `trim` needs the file of
structures that --data names: the random thousand of MPtrj that MatterSim published. What a part found is kept in
FOLDER, and `--docs` puts it into docs/sevennet.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.nequip import NequIP
from atomsml.potentials.nequip.sevennet_checkpoint import convert
from atomsml.potentials.nequip.trim import trim_radial
from benchmarks.shared.peers import ROOT, Program, sustained, take_turns, versions
from benchmarks.shared.reporting import (
    DOCS,
    README,
    SPEED,
    processor,
    read_frames,
    replace_row,
    replace_section,
    spread,
    table,
)
from benchmarks.shared.workloads import Structure

SEVENN = ROOT / ".venv-sevenn" / "bin" / "python"
GOLDEN = ROOT / "tests" / "potentials" / "nequip" / "make_sevennet_golden.py"
MODELS = {"SevenNet-0 (11Jul2024)": "SevenNet_0__11Jul2024", "SevenNet-l3i5": "SevenNet_l3i5"}
# title -> checkpoint and modality
PARITY = {
    **{title: (name, None) for title, name in MODELS.items()},
    "SevenNet-0 (22May2024)": ("SevenNet_0__22May2024", None),
    **{f"SevenNet-MF-0, {modality}": ("SevenNet_MF_0", modality) for modality in ("PBE", "R2SCAN")},
}
PUBLISHED_TRIM = "linear maps of the Bessel functions, 842,748 to 624,380 (-25.9 %), R2 99.07-99.89 %"
SIZES = (2, 3, 4)  # 64, 216 and 512 atoms of silicon


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=("parity", "trim", "speed"), default=("parity", "trim", "speed"))
    parser.add_argument("--data", type=Path, help="structures for the part trim, .extxyz.xz")
    parser.add_argument("--frames", type=int, default=200, help="how many of them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="put what FOLDER has into docs/sevennet.md")
    arguments = parser.parse_args()
    if not SEVENN.exists():
        parser.error("sevenn is not installed; run `make sevenn`")
    if "trim" in arguments.only and arguments.data is None:
        parser.error("the part trim needs --data")
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], str]] = {
        "parity": lambda: parity(arguments.output),
        "trim": lambda: trim(arguments.output, read_frames(arguments.data)[: arguments.frames]),
        "speed": lambda: speed(arguments.output, arguments.repeats),
    }
    for name in arguments.only:
        text = f"{machine()}.\n\n{parts[name]()}"
        (arguments.output / f"{name}.md").write_text(text, encoding="utf-8")
        print(text)
    for name in parts if arguments.docs else ():
        if (arguments.output / f"{name}.md").exists():
            replace_section(DOCS / "sevennet.md", name, (arguments.output / f"{name}.md").read_text(encoding="utf-8"))
    if arguments.docs and (row := arguments.output / "readme.json").exists():
        replace_row(README, SPEED, json.loads(row.read_text(encoding="utf-8")))


def machine() -> str:
    ours = versions(Path(sys.executable), ("atomsml", "torch"))
    theirs = versions(SEVENN, ("sevenn", "e3nn", "torch"))
    return f"{processor()}, one thread, Python {platform.python_version()}; {ours}; beside {theirs}"


def compute_with_sevenn(folder: Path, published: str, dtype: str) -> tuple[dict[str, np.ndarray], Path]:
    """What sevenn says of the structures of its golden script, and where its checkpoint lies."""
    command = [SEVENN, "-W", "ignore", GOLDEN, folder, "--published", published, "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with np.load(folder / "golden.npz") as file:
        return dict(file), Path(done.stdout.strip())


def parity(folder: Path) -> str:
    """The largest difference of all structures, relative to the largest entry of each."""
    rows = []
    for title, (published, modality) in PARITY.items():
        exact, path = compute_with_sevenn(folder, published, "float64")
        single, _ = compute_with_sevenn(folder, published, "float32")
        potential, _ = convert(path, modality)
        case = published if modality is None else f"{published}/{modality}"
        for dtype, theirs in (("float64", exact), ("float32", single)):
            ours = predict_all(potential.cast(getattr(torch, dtype)), theirs, case)
            found = [f"{worst(ours, theirs, f'{case}/{quantity}'):.0e}" for quantity in QUANTITIES]
            rows.append([f"{title}, {dtype}", "atomsml - sevenn", *found])
        own = [f"{worst(single, exact, f'{case}/{quantity}'):.0e}" for quantity in QUANTITIES]
        rows.append([f"{title}", "sevenn, float32 - float64", *own])
    return table(["model", "difference", *QUANTITIES], rows)


QUANTITIES = ("energy", "forces", "stress")


def predict_all(potential: NequIP, golden: dict[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    """Ours under the keys of the golden script, for the model that it calls `case`."""
    found = {}
    for name in [key.removesuffix("/numbers") for key in golden if key.endswith("/numbers")]:
        atoms = Atoms(**{key: golden[f"{name}/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
        prediction = evaluate(potential, AtomicGraph.from_ase(atoms).to(dtype=potential.dtype), stress=True)
        assert prediction.forces is not None
        assert prediction.stress is not None
        found[f"{name}/{case}/energy"] = prediction.energy.numpy()
        found[f"{name}/{case}/forces"] = prediction.forces.numpy()
        found[f"{name}/{case}/stress"] = prediction.stress[0].numpy()
    return found


def worst(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], ending: str) -> float:
    keys = [key for key in theirs if key.endswith(ending)]
    return max(float(np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max()) for key in keys)


def trim(folder: Path, frames: list[Atoms]) -> str:
    rows = []
    for title, published in MODELS.items():
        _, path = compute_with_sevenn(folder, published, "float32")
        potential, _ = convert(path)
        trimmed, report = trim_radial(potential)
        before, after = report.parameters_before, report.parameters_after
        found = [predict_frames(model.cast(torch.float32), frames) for model in (potential, trimmed)]
        count = f"{before:,} to {after:,} ({after / before - 1:.1%})"
        rows.append([title, count, ", ".join(f"{r2:.2%}" for r2 in report.r2), *changes(*found, frames)])
    header = ["model", "parameters", "R2 by layer", "change of energy", "of forces", "energy error", "force error"]
    return (
        f"{len(frames)} structures, {sum(map(len, frames))} atoms; energies in meV per atom, forces in meV/A "
        "(components). Changes are mean and median absolute values; errors are means against the set's PBE values, "
        "before and after.\n\n"
        + table(header, rows)
        + f"\nPublished for SevenNet-0 by the authors of Facet: {PUBLISHED_TRIM}.\n"
    )


Predictions = tuple[np.ndarray, np.ndarray]


def predict_frames(potential: NequIP, frames: list[Atoms]) -> Predictions:
    """Energies per atom in eV, and all forces in eV/A."""
    predict = potential.predictor()
    found = [predict(AtomicGraph.from_ase(atoms).with_neighbors(potential.cutoff)) for atoms in frames]
    forces = [prediction.forces.numpy() for prediction in found if prediction.forces is not None]
    return np.array([float(p.energy) / len(a) for p, a in zip(found, frames, strict=True)]), np.concatenate(forces)


def changes(before: Predictions, after: Predictions, frames: list[Atoms]) -> list[str]:
    """Mean and median absolute changes, then errors before and after."""
    labels = (
        np.array([atoms.info["REF_energy"] / len(atoms) for atoms in frames]),
        np.concatenate([atoms.arrays["REF_forces"] for atoms in frames]),
    )

    def mean(one: np.ndarray, other: np.ndarray) -> str:
        return f"{1000 * np.abs(one - other).mean():.1f}"

    def median(one: np.ndarray, other: np.ndarray) -> str:
        return f"{1000 * np.median(np.abs(one - other)):.1f}"

    moved = [f"{mean(a, b)}, {median(a, b)}" for a, b in zip(before, after, strict=True)]
    return moved + [f"{mean(a, r)}, {mean(b, r)}" for a, b, r in zip(before, after, labels, strict=True)]


def speed(folder: Path, repeats: int) -> str:
    """Energy, forces and stress of silicon, one thread, in turns; time of the processor."""
    _, path = compute_with_sevenn(folder, MODELS["SevenNet-0 (11Jul2024)"], "float32")
    potential, _ = convert(path)
    rows = [
        speed_of(path, potential.cast(getattr(torch, dtype)), Structure("silicon", size), repeats)
        for dtype in ("float32", "float64")
        for size in SIZES
    ]
    (folder / "readme.json").write_text(json.dumps(readme_row(rows)), encoding="utf-8")
    programs = ["sevenn, eager", "atomsml", "atomsml, exact", "atomsml, trimmed"]
    header = ["precision", "atoms", *programs, "sevenn / atomsml"]
    return "Microseconds of the processor per atom.\n\n" + table(header, rows)


def readme_row(rows: list[list[str]]) -> list[str]:
    """Of 216 atoms in float32; medians, without the smallest and the largest."""
    row = next(row for row in rows if row[:2] == ["float32", "216"])
    theirs, ours, ratio = (row[i].split(" ")[0] for i in (2, 3, -1))
    work = "energy, forces and stress of 216 Si atoms: SevenNet-0, float32"
    return [work, f"{ours} us/atom", f"sevenn: {theirs} us/atom", ratio, "`accuracy.sevennet`"]


def speed_of(path: Path, potential: NequIP, structure: Structure, repeats: int) -> list[str]:
    graph = AtomicGraph.from_ase(*structure.systems()).with_neighbors(potential.cutoff).to(dtype=potential.dtype)
    trimmed = trim_radial(potential)[0]
    predictors = [potential.predictor(), potential.predictor(exact=True), trimmed.predictor()]
    dtype = str(potential.dtype).removeprefix("torch.")
    command = [SEVENN, "-W", "ignore", "-m", "benchmarks.shared.peer_sevennet", path, str(structure.repeat), dtype]
    with Program(command, threads=1) as sevenn:
        assert abs(float(predictors[0](graph, stress=True).energy) / sevenn.ask("energy") - 1) < 1e-5
        ours = [partial(sustained, partial(predict, graph, stress=True), time.process_time) for predict in predictors]
        turns = take_turns([partial(sevenn.ask, "seconds"), *ours], repeats, warm_up=2)
    times = [[1e6 * value / structure.atoms for value in of_step] for of_step in turns]
    ratios = [a / b for a, b in zip(times[0], times[1], strict=True)]
    return [dtype, f"{structure.atoms}", *map(spread, times), spread(ratios)]


if __name__ == "__main__":
    main()
