"""Generated backbones: closed by projection, with their motif, judged, and written to one file or to a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomsml.cli.generate.report import HEADER, cells

if TYPE_CHECKING:
    from atomsml.generative.proteins.backbones import BackboneRequest, Chain
    from atomsml.generative.proteins.metrics.evaluate import Evaluation
    from atomsml.io import OutputSet
    from atomsml.report import Fragment

COUNTS = ("drawn", "left_out", "written", "valid")
MOVED = 1.0  # A, root mean square: a chain that the projection moved farther is not what was drawn, and not valid
SHOWN = ("ca_ca", "unbroken", "bond_outliers", "angle_outliers")  # what a projection changes of the suite "geometry"


@dataclass(frozen=True)
class DrawnBackbone:
    """One chain of a run.

    | field | meaning |
    |---|---|
    | index, seed | its number in the run, and the seed of this chain alone |
    | chain | what is written; its scores say how far the projection moved each CA, in Angstrom |
    | drawn | the chain before the projection |
    | moved | root mean square of these scores; None without projection |
    """

    index: int
    seed: int
    chain: Chain
    drawn: Chain
    moved: float | None


def finished(
    chains: Mapping[int, Chain], requests: Sequence[BackboneRequest], motif: Chain | None, project: bool
) -> dict[int, DrawnBackbone]:
    """Chains by their places among the requests, with the atoms of the motif, closed if they are to be.

    Those are left out whose coordinates are not all numbers.
    """
    import numpy as np

    from atomsml.generative.proteins.motif import with_motif

    places = [place for place, chain in chains.items() if np.isfinite(chain.coordinates).all()]
    held = [request.motif.places if request.motif else () for request in (requests[place] for place in places)]

    def exact(chain: Chain, where: Sequence[int]) -> Chain:
        return chain if motif is None else with_motif(chain, where, motif)

    drawn = [exact(chains[place], where) for place, where in zip(places, held, strict=True)]
    closed = _closed(drawn, held) if project and drawn else drawn
    made = {}
    for place, where, before, after in zip(places, held, drawn, closed, strict=True):
        chain = exact(after, where)
        moved = None if chain.scores is None else float(np.sqrt((chain.scores**2).mean()))
        made[place] = DrawnBackbone(place, requests[place].seed, chain, before, moved)
    return made


def _closed(chains: Sequence[Chain], held: Sequence[Sequence[int]]) -> list[Chain]:
    """The chains after the projection, scored by how far it moved each CA."""
    import numpy as np
    import torch

    from atomsml.generative.proteins.backbones import Backbones
    from atomsml.generative.proteins.projection import close_chains

    coordinates = [chain.coordinates for chain in chains]
    backbones = Backbones.from_coordinates(coordinates, torch.float64, centred=False)
    atoms = torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, coordinates)), batch_first=True)
    is_held = torch.zeros_like(backbones.mask)
    for row, places in enumerate(held):
        is_held[row, list(places)] = True
    closed, _ = close_chains(backbones, is_held, atoms)
    return [
        replace(after, scores=np.linalg.norm(after.coordinates[:, 1] - before.coordinates[:, 1], axis=1))
        for before, after in zip(chains, closed.to_chains(), strict=True)
    ]


def file_in(folder: Path, index: int) -> Path:
    return folder / f"backbone-{index:04d}.pdb"


def write_backbones(files: OutputSet, output: Path, made: Sequence[DrawnBackbone]) -> list[Path]:
    """Write all to one file, or each to its own where `output` has no suffix and is a folder; returns the files.

    Raises:
        OSError: a path cannot be written.
        ValueError: a chain does not fit into the columns of PDB.
    """
    from atomsml.generative.proteins.io import write_chains

    contents = {file_in(output, each.index): [each.chain] for each in made}
    if output.suffix and made:
        contents = {output: [each.chain for each in made]}
    for path, chains in contents.items():
        files.write(path, lambda beside, chains=chains: write_chains(beside, chains))  # type: ignore[misc]
    return list(contents)


def judged(made: Sequence[DrawnBackbone], failed: int) -> dict[str, Any]:
    """What the summary says about chains: how good they are, before and after the projection, and each of them."""
    from atomsml.generative.proteins.metrics.evaluate import evaluate_backbones
    from atomsml.generative.proteins.metrics.geometry import geometry

    found = evaluate_backbones([each.chain for each in made], tm=False)
    chains = [_properties(each, place, found) for place, each in enumerate(made)]
    report: dict[str, Any] = {
        "drawn": len(made) + failed,
        "left_out": failed,
        "written": len(made),
        "valid": sum(each["valid"] == "yes" for each in chains),
        "suites": {name: suite.to_json() for name, suite in found.suites.items()},
    }
    if made[0].moved is not None:
        moved = [each.moved for each in made if each.moved is not None]
        before = geometry([each.drawn for each in made]).to_json()["metrics"]
        report["projection"] = {
            "moved_mean": round(sum(moved) / len(moved), 4),
            "moved_most": round(max(moved), 4),
            "before": {name: before[name] for name in SHOWN},
        }
    return report | {"chains": chains}


def _properties(each: DrawnBackbone, place: int, found: Evaluation) -> dict[str, Any]:
    reasons = [found.failures[place]] if found.failures[place] else []
    if each.moved is not None and each.moved > MOVED:
        reasons.append(f"drawn {each.moved:.1f} A from closed bonds")
    properties = {
        "index": each.index,
        "seed": each.seed,
        "residues": len(each.chain),
        "valid": "no" if reasons else "yes",
        "reason": "; ".join(reasons) or None,
        "moved": None if each.moved is None else round(each.moved, 3),
        "helix": round(found.columns["helix"][place], 3),
        "strand": round(found.columns["strand"][place], 3),
    }
    return {name: value for name, value in properties.items() if value is not None}


def rows(report: dict[str, Any]) -> list[list[str]]:
    """The cells of a table of HEADER."""
    listed = [[name.replace("_", " "), str(report[name]), "", "", "backbones", ""] for name in COUNTS]
    if "projection" in report:
        projection = report["projection"]
        for name in ("moved_mean", "moved_most"):
            listed.append([name.replace("_", " "), f"{projection[name]:.2f}", "", "", "A", "projection"])
        for name, metric in projection["before"].items():
            listed.append([f"{name.replace('_', ' ')} before", *cells(metric), "projection"])
    for suite in report["suites"].values():
        for name, metric in suite["metrics"].items():
            listed.append([name.replace("_", " "), *cells(metric), suite["version"]])
    return listed


def page_parts(made: Sequence[DrawnBackbone], report: dict[str, Any]) -> list[Fragment]:
    """What --report shows: each chain in three dimensions, and how good they are together."""
    import ase

    from atomsml.cli.generate.backbone_picture import kinds_of
    from atomsml.report import Scene, section, table, viewer

    header = ["index", "residues", "valid", "moved A", "helix", "strand"]
    scenes, lines = [], []
    for each, found in zip(made, report["chains"], strict=True):
        atoms = ase.Atoms("NCCO" * len(each.chain), each.chain.coordinates.reshape(-1, 3))
        ribbon = "".join(kind[0] for kind in kinds_of(each.chain))
        scenes.append(Scene(f"{each.index}  {len(each.chain)} residues", [atoms], [""], ribbon=ribbon))
        valid = f"no: {found['reason']}" if "reason" in found else "yes"
        shares = (f"{found[name]:.0%}" for name in ("helix", "strand"))
        lines.append([str(each.index), str(len(each.chain)), valid, str(found.get("moved", "-")), *shares])
    return [
        section("Backbones", viewer(scenes, header, lines)),
        section("How good they are", table(HEADER, rows(report))),
    ]
