"""What a run with replica exchange tells of its ladder: how often neighbours swap, and how replicas climb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.io import OutputSet
    from atomsml.io.trajectory import Trajectory
    from atomsml.report import Fragment

BINS = 30  # of a histogram of energies


@dataclass(frozen=True, eq=False)
class Ladder:
    """A run as far as all temperatures have frames."""

    temperatures: Sequence[float]  # K
    steps: np.ndarray  # (frames,)
    time: np.ndarray  # (frames,) fs
    replica: np.ndarray  # (frames, temperatures) which one is at each
    tried: np.ndarray  # (temperatures - 1,) attempts of each and the next
    swapped: np.ndarray  # (temperatures - 1,)
    energy: np.ndarray  # (frames, temperatures) eV, potential
    conserved: np.ndarray  # (frames,) eV, of all together
    atoms: int  # of all

    @staticmethod
    def of(trajectory: Trajectory) -> Ladder:
        frames = int(trajectory.frames.min())

        def read(name: str) -> np.ndarray:
            return np.stack([system.read(name, slice(0, frames)) for system in trajectory.systems], axis=1)

        last = slice(max(0, frames - 1), frames)
        counts = {name: read(name)[last].sum(axis=0)[:-1] for name in ("tried", "swapped")}
        return Ladder(
            trajectory.about["settings"]["replicas"],
            np.arange(frames) * trajectory.interval,
            trajectory.systems[0].times(slice(0, frames)),
            read("replica"),
            **counts,
            energy=read("energy"),
            conserved=read("conserved").sum(axis=1),
            atoms=sum(len(system.numbers) for system in trajectory.systems),
        )

    @cached_property
    def places(self) -> np.ndarray:
        """(frames, replicas) on which rung each replica is."""
        return self.replica.argsort(axis=1)

    def facts(self) -> dict[str, Any]:
        """For the summary: of each pair of neighbours, and of all."""
        pairs = [
            {
                "temperatures": [lower, upper],
                "tried": int(self.tried[i]),
                "swapped": int(self.swapped[i]),
                "acceptance": float(self.swapped[i] / self.tried[i]) if self.tried[i] else None,
                "overlap": overlap(self.energy[:, i], self.energy[:, i + 1]),
            }
            for i, (lower, upper) in enumerate(pairwise(self.temperatures))
        ]
        drift = None
        if len(self.time) > 1:
            drift = float(np.polyfit(self.time, self.conserved, 1)[0] * np.ptp(self.time) / self.atoms * 1000)
        return {
            "pairs": pairs,
            "round_trips": round_trips(self.places, len(self.temperatures) - 1),
            "drift_meV_per_atom": drift,
        }

    def write(self, files: OutputSet, table: Path, picture: Path) -> None:
        """Which replica is where in time, .csv, and the picture."""
        files.write(table, self._write_walk)
        files.write(picture, self.draw)

    def _write_walk(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write(",".join(["step", "time_fs", *(f"replica_at_{t:g}_K" for t in self.temperatures)]) + "\n")
            for step, time, row in zip(self.steps, self.time, self.replica, strict=True):
                file.write(",".join([str(step), f"{time:.3f}", *map(str, row)]) + "\n")

    def draw(self, path: Path) -> None:
        """How often neighbours swap, how replicas climb, and how energies overlap."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        rungs = len(self.temperatures)
        names = [f"{t:g}" for t in self.temperatures]
        colours = colormaps["viridis"](np.linspace(0, 0.9, rungs))
        figure = Figure(figsize=(8, 9), layout="constrained")
        rates, walk, energies = figure.subplots(3, height_ratios=[1, 1.6, 1.2])
        pairs = self.facts()["pairs"]
        between = np.arange(rungs - 1) + 0.5
        rates.bar(between, [pair["acceptance"] or 0 for pair in pairs], width=0.6, label="swaps accepted")
        rates.plot(between, [pair["overlap"] for pair in pairs], "o", color="tab:orange", label="overlap of energies")
        rates.set(ylim=(0, 1), xticks=np.arange(rungs), xticklabels=names, xlabel="temperature (K)", ylabel="share")
        rates.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        for replica in range(rungs):
            line = {"color": colours[replica], "linewidth": 1, "label": replica}
            walk.step(self.time / 1000, self.places[:, replica], where="post", **line)
        walk.set(yticks=np.arange(rungs), yticklabels=names, xlabel="time (ps)", ylabel="temperature (K)")
        if rungs <= 12:
            walk.legend(title="replica", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        above = self.energy - self.energy.min()
        edges = np.histogram_bin_edges(above, BINS)
        for rung in range(rungs):
            line = {"color": colours[rung], "label": f"{names[rung]} K"}
            energies.hist(above[:, rung], bins=edges, histtype="step", density=True, **line)
        energies.set(xlabel="potential energy above the lowest (eV)", ylabel="frequency (1/eV)")
        if rungs <= 12:
            energies.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        figure.savefig(path, dpi=150)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The area that the histograms of two samples share, between 0 and 1."""
    edges = np.histogram_bin_edges(np.concatenate([one, other]), BINS)
    shares = [np.histogram(values, edges)[0] / len(values) for values in (one, other)]
    return float(np.minimum(*shares).sum())


def round_trips(places: np.ndarray, top: int) -> int:
    """How often replicas went from the lowest rung to the highest and back, of (frames, replicas) places."""
    trips = 0
    for walk in places.T:
        ends = walk[(walk == 0) | (walk == top)]
        turns = ends[np.diff(ends, prepend=-1) != 0]  # 0, top, 0, top, ...
        trips += max(0, int((turns == 0).sum()) - 1)
    return trips


def replicate(job: Job, temperatures: Sequence[float]) -> None:
    """Let the one structure of a job be there once for each temperature.

    Raises:
        ValueError: there are several.
    """
    from atomsml.io import Refused

    if len(job.inputs) != 1:
        raise ValueError(f"--replicas runs one structure at several temperatures, got {len(job.inputs)} structures")
    (only,) = job.inputs
    assert not isinstance(only, Refused)
    job.inputs = [replace(only, atoms=only.atoms.copy()) for _ in temperatures]


def print_ladder(results: Mapping[str, Any]) -> None:
    """A table of pairs, and what is not in it, if there is any."""
    from atomsml.cli.output import print_table

    if facts := results.get("replica_exchange"):
        typer.echo()
        print_table(*_table_of(facts))
        typer.echo(_words_of(facts))


def ladder_parts(results: Mapping[str, Any], picture: Path) -> list[Fragment]:
    """For the report."""
    from atomsml.report import image, paragraph, table

    facts = results["replica_exchange"]
    shown = image(picture, "acceptance, the walk of replicas through the temperatures, and histograms of the energies")
    return [table(*_table_of(facts)), paragraph(_words_of(facts)), shown]


def _table_of(facts: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read, of the pairs."""
    from atomsml.cli.output import number

    header = ["between K", "and K", "tried", "swapped", "acceptance", "overlap of energies"]
    rows = [
        [
            *(f"{t:g}" for t in pair["temperatures"]),
            *(str(pair[key]) for key in ("tried", "swapped")),
            *(number(pair[key], 3) for key in ("acceptance", "overlap")),
        ]
        for pair in facts["pairs"]
    ]
    return header, rows


def _words_of(facts: dict[str, Any]) -> str:
    """What is not in the table."""
    drift = "" if facts["drift_meV_per_atom"] is None else f"; drift {facts['drift_meV_per_atom']:.4f} meV/atom"
    return f"{facts['round_trips']} round trips between the lowest and the highest temperature{drift}"
