"""Generators of backbones beside the chains that they were trained on, by all measures; and quality against steps.

    python -m benchmarks.generation.backbones FOLDER --data DATA/proteins flow=flow.safetensors diffusion=MODEL
        [-n 64] [--length 64] [--steps 10,20,50,100,200,500] [--each 32] [--threads 1] [--docs]

Each generator is a name and a model, an embedded one or a file; it draws the chains of seed 0 with the steps and the
sampler that suit it, all of one length. It has two columns: as drawn, and with its peptide bonds closed, as `atomsml
generate backbones` does. None is chosen or left out. The column `data` has windows of the training chains, of that
length, one of each of so many chains taken at random with a fixed seed; their nearest is that among the other chains.
Measures are those of `atomsml evaluate backbones`, with 95 % confidence intervals. Time is that of the processor,
drawing sixteen at once and one alone; memory is the most that was held, in a process of its own.

FOLDER/NAME.json gets the numbers, FOLDER/NAME.pdb.gz the chains, FOLDER/steps.json quality against steps; what is there
is not made again. `--docs` puts the table and the plot in docs/generators/backbone-metrics.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from atomsml.cli.generate.backbone_records import DrawnBackbone, finished
from atomsml.generative.core.metrics import Metric
from atomsml.generative.core.modelfile import load_generator
from atomsml.generative.core.sampling import draw, sample_seed
from atomsml.generative.proteins.backbones import BackboneRequest, Chain
from atomsml.generative.proteins.io.files import write_chains
from atomsml.generative.proteins.metrics.evaluate import evaluate_backbones
from atomsml.generative.proteins.metrics.tm_score import nearest_of, of_nearest
from atomsml.generative.proteins.model import BackboneModel
from atomsml.generative.proteins.set import BackboneSet, read_backbones
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

SEED = 0
AT_ONCE = 16
DATA, CLOSED = "data", ", closed"
MEASURES = {  # suite and metric: what the table calls it
    "geometry ca_ca": "CA-CA within 3.8 +- 0.2 A, %",
    "geometry unbroken": "chains without a break, %",
    "geometry bond_rms": "bonds, rms deviations",
    "geometry angle_rms": "angles, rms deviations",
    "geometry twisted": "twisted peptide bonds, %",
    "geometry positive_phi": "phi above 0, %",
    "geometry mirror_images": "mirror images, %",
    "clashes ca": "residues with CA within 3.5 A, %",
    "clashes atoms": "residues whose atoms clash, %",
    "ramachandran favoured": "Ramachandran: favoured, %",
    "ramachandran outliers": "Ramachandran: outliers, %",
    "secondary_structure helix": "helix, %",
    "secondary_structure strand": "strand, %",
    "secondary_structure left_handed": "left-handed, of helices, %",
    "radius_of_gyration ratio": "Rg / (2.96 N^0.318 A), median",
    "radius_of_gyration within": "Rg within 15 %, %",
    "tm_score pair_mean": "TM of pairs, mean",
    "tm_score clusters_0.5": "clusters at TM 0.5, of chains, %",
    "tm_score nearest_median": "TM to the nearest training chain, median",
    "tm_score nearest_high": "that 90 % stay below",
    "tm_score nearest_max": "the highest",
    "tm_score novel": "nearest below 0.5, %",
}
COSTS = {
    "steps": "steps",
    "moved": "CA moved by closing, median rms, A",
    "seconds": f"processor time for a chain of {AT_ONCE} at once, s",
    "alone": "processor time for one alone, s",
    "mebibytes": "memory, MiB",
}
PLOTTED = {  # of the plot against steps
    "geometry ca_ca": "CA-CA within 3.8 $\\pm$ 0.2 A, %",
    "clashes ca": "residues with CA within 3.5 A, %",
    "ramachandran outliers": "Ramachandran outliers, %",
    "structured": "helix or strand, %",
}


def draw_chains(
    model: BackboneModel, indices: Sequence[int], length: int, steps: int
) -> dict[int, tuple[Chain, BackboneRequest]]:
    """Chains of seed 0 by their numbers in the run, drawn sixteen at once."""
    requests = [BackboneRequest(sample_seed(SEED, index), length) for index in indices]
    sample = partial(model.sample, steps=steps, sampler=model.default_sampler)
    drawn = dict[int, Chain]()
    for progress in draw(model, requests, model.batches(requests, AT_ONCE), sample):
        drawn |= progress.drawn
    return {index: (drawn[place], requests[place]) for place, index in enumerate(indices)}


def opened(name: str, threads: int) -> BackboneModel:
    torch.set_num_threads(threads)
    model = load_generator(name)
    assert isinstance(model, BackboneModel)
    return model


def draw_in_process(name: str, number: int, length: int, threads: int) -> tuple[list[DrawnBackbone], dict[str, Any]]:
    """All chains, and what they cost; one whose coordinates are not all numbers ends the measurement."""
    model = opened(name, threads)
    steps = model.default_steps
    started = time.process_time()
    drawn = draw_chains(model, range(number), length, steps)
    seconds = (time.process_time() - started) / number
    started = time.process_time()
    draw_chains(model, [0], length, steps)
    alone = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kiB on Linux
    made = closed(drawn)
    costs = {"steps": f"{steps} {model.default_sampler}", "seconds": seconds, "alone": alone, "mebibytes": memory}
    return made, costs


def closed(drawn: Mapping[int, tuple[Chain, BackboneRequest]]) -> list[DrawnBackbone]:
    """As the command closes them.

    Raises:
        ValueError: coordinates that are not all numbers; says of how many chains.
    """
    made = finished(
        {i: chain for i, (chain, _) in drawn.items()}, [request for _, request in drawn.values()], None, True
    )
    if len(made) < len(drawn):
        raise ValueError(f"{len(drawn) - len(made)} of {len(drawn)} chains are not finite")
    return [made[index] for index in sorted(made)]


def windows_of(data: BackboneSet, number: int, length: int) -> tuple[list[Chain], list[int]]:
    """One window of each of so many chains, always the same, and the families that they are of."""
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(np.flatnonzero(data.sizes == length))
    groups = data.groups()
    _, first = np.unique(groups[rows], return_index=True)
    chosen = rows[np.sort(first)][:number]
    chains = []
    for chain, start, size in data.windows[chosen].tolist():
        whole, part = data.chains[chain], slice(start, start + size)
        chains.append(Chain(whole.coordinates[part], whole.sequence[part], whole.labels[part]))
    return chains, groups[chosen].tolist()


def judged(chains: Sequence[Chain], nearest: np.ndarray) -> dict[str, Any]:
    """[value, low, high] of all measures."""
    found = evaluate_backbones(chains).suites
    metrics = {f"{suite} {name}": metric for suite, one in found.items() for name, metric in one.metrics.items()}
    metrics |= {f"tm_score {name}": metric for name, metric in of_nearest(nearest).items()}
    values = {name: listed(metrics[name]) for name in MEASURES}
    return {"chains": len(chains), "versions": [suite.version for suite in found.values()], **values}


def listed(metric: Metric) -> list[float | None]:
    return [x if np.isfinite(x) else None for x in (metric.value, metric.low, metric.high)]


def data_rows(data: BackboneSet, number: int, length: int) -> dict[str, dict[str, Any]]:
    chains, families = windows_of(data, number, length)
    others = [
        [whole for whole, own in zip(data.chains, data.families.tolist(), strict=True) if own != family]
        for family in families
    ]
    nearest = np.array([nearest_of(chain, rest) for chain, rest in zip(chains, others, strict=True)])
    return {DATA: judged(chains, nearest)}


def model_rows(
    name: str, model: str, folder: Path, data: BackboneSet, number: int, length: int, threads: int
) -> dict[str, dict[str, Any]]:
    """As drawn and closed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        made, costs = pool.submit(draw_in_process, model, number, length, threads).result()
    write_chains(folder / f"{name}.pdb.gz", [each.chain for each in made])
    moved = float(np.median([each.moved for each in made if each.moved is not None]))
    rows = {}
    for key, chains in ((name, [each.drawn for each in made]), (f"{name}{CLOSED}", [each.chain for each in made])):
        rows[key] = judged(chains, np.array([nearest_of(chain, data.chains) for chain in chains])) | costs
    rows[f"{name}{CLOSED}"]["moved"] = moved
    return rows


def kept(path: Path, about: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returns, measured now, or before with the same settings and in `path`."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["about"] == about:
            return dict(known["found"])
    found = make()
    path.write_text(json.dumps({"about": about, "found": found}, indent=1), encoding="utf-8")
    return found


def against_steps(models: Mapping[str, str], steps: Sequence[int], each: int, length: int) -> dict[str, Any]:
    """Values of `PLOTTED` of every model, as drawn and closed, at every number of steps."""
    found: dict[str, Any] = {}
    for name, path in models.items():
        model = opened(path, 1)
        for count in steps:
            made = closed(draw_chains(model, range(each), length, count))
            for key, chains in ((name, [one.drawn for one in made]), (f"{name}{CLOSED}", [one.chain for one in made])):
                found.setdefault(key, []).append(plotted(chains))
            print(f"{name}, {count} steps: {found[name][-1]}", flush=True)
    return found


def plotted(chains: Sequence[Chain]) -> dict[str, float]:
    suites = evaluate_backbones(chains, tm=False).suites
    values = {f"{suite} {name}": m.value for suite, one in suites.items() for name, m in one.metrics.items()}
    values["structured"] = values["secondary_structure helix"] + values["secondary_structure strand"]
    return {name: values[name] for name in PLOTTED}


def draw_plot(path: Path, found: Mapping[str, Any], steps: Sequence[int], data: Mapping[str, float]) -> None:
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(2, 2).ravel(), PLOTTED.items(), strict=True):
        for place, (key, values) in enumerate(found.items()):
            line = "--" if key.endswith(CLOSED) else "-"
            shares = [100 * value[name] for value in values]
            axes.plot(steps, shares, line, marker="o", markersize=4, color=f"C{place // 2}", label=key)
        axes.axhline(100 * data[name], color="black", linewidth=0.8, linestyle=":", label="data")
        axes.set(xscale="log", xlabel="steps", ylabel=label, xticks=steps, xticklabels=steps)
        axes.minorticks_off()
    figure.axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def cell(row: Mapping[str, Any], name: str) -> str:
    """A value with its interval, a cost, or a dash where there is none."""
    value = row.get(name)
    if isinstance(value, list) and value[0] is not None:
        percent = MEASURES[name].endswith("%")
        middle, *ends = ("" if x is None else f"{100 * x:.1f}" if percent else f"{x:.2f}" for x in value)
        return f"{middle} ({ends[0]}-{ends[1]})" if all(ends) else middle
    if value is None or isinstance(value, list):
        return "-"
    return f"{value:.2f}" if name in ("seconds", "alone", "moved") else f"{value:.0f}" if name == "mebibytes" else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", metavar="NAME=MODEL")
    parser.add_argument("--data", type=Path, required=True, help="chains of training, as read by `atomsml train`")
    parser.add_argument("-n", "--number", type=int, default=64)
    parser.add_argument("--length", type=int, default=64, help="40, 48, ... 128")
    parser.add_argument("--steps", default="10,20,50,100,200,500")
    parser.add_argument("--each", type=int, default=32, help="chains at each number of steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_intermixed_args()
    folder, number, length = arguments.folder, arguments.number, arguments.length
    folder.mkdir(parents=True, exist_ok=True)
    data = read_backbones([arguments.data])
    models = dict(given.split("=", 1) for given in arguments.models)
    about = {"number": number, "length": length}
    rows = kept(folder / f"{DATA}.json", about, lambda: data_rows(data, number, length))
    for name, model in models.items():
        make = partial(model_rows, name, model, folder, data, number, length, arguments.threads)
        rows |= kept(folder / f"{name}.json", about | {"model": model}, make)
    lines = [
        [label, *(cell(row, name) for row in rows.values())]
        for name, label in (MEASURES | (COSTS if models else {})).items()
    ]
    threads = "1 thread" if arguments.threads == 1 else f"{arguments.threads} threads"
    drawn = f" and {number} chains of each generator; {threads} of {processor()}" if models else ""
    text = f"{table(['', *rows], lines)}\n{rows[DATA]['chains']} windows of {length} residues{drawn}."
    print(text)
    if arguments.docs:
        replace_section(DOCS / "generators" / "backbone-metrics.md", "backbones", text)
    if models:
        steps = [int(count) for count in arguments.steps.split(",")]
        settings = about | {"models": models, "steps": steps, "each": arguments.each}
        found = kept(folder / "steps.json", settings, lambda: against_steps(models, steps, arguments.each, length))
        picture = DOCS / "images" / "backbones-steps.png" if arguments.docs else folder / "steps.png"
        draw_plot(picture, found, steps, plotted(windows_of(data, number, length)[0]))


if __name__ == "__main__":
    main()
