"""`atomsml generate backbones`: draw backbones of proteins, close their bonds, and hold a motif where one is given."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.generate.samples import default_generator, draw_samples, open_generator
from atomsml.cli.options import ConfigOption, DeviceOption, JsonOption, SeedOption
from atomsml.cli.report import ReportOption

if TYPE_CHECKING:
    from atomsml.cli.generate.backbone_records import DrawnBackbone
    from atomsml.generative.proteins.backbones import BackboneRequest, Chain
    from atomsml.generative.proteins.model import BackboneModel
    from atomsml.generative.proteins.motif import Contig
    from atomsml.io import OutputSet


def backbones(
    context: typer.Context,
    number: Annotated[int, typer.Option("--number", "-n", help="How many backbones.")] = 10,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where they go: one file with a model for each, .pdb or .cif, also .gz; or a folder of PDB files.",
        ),
    ] = Path("backbones.pdb"),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name of an embedded generator, or a file. [default: the embedded one]"),
    ] = None,
    seed: SeedOption = 0,
    length: Annotated[
        str | None,
        typer.Option(metavar="N|N-N", help="Residues: 64, or drawn from 60-100. [default: drawn, as in training]"),
    ] = None,
    motif: Annotated[
        Path | None, typer.Option(help="File of a protein, .pdb or .cif, also .gz, of which --contig takes residues.")
    ] = None,
    contig: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="What comes one after the other: free residues, 12 or 10-20, and residues of the motif by chain and "
            "number, A5-25 or A7; held exactly where they are.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps from noise to backbone. [default: what suits the model]")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="How to step. [default: what suits the model]")] = None,
    noise_scale: Annotated[
        float, typer.Option(help="Of the noise that a sampler with noise adds; 1 is as trained, less is more usual.")
    ] = 1.0,
    project: Annotated[
        bool, typer.Option(help="Close the peptide bonds at the end; column B says how far each CA moved, in A.")
    ] = True,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the backbones and their Ramachandran plot, .png, .pdf or .svg.")
    ] = None,
    report: ReportOption = None,
    batch: Annotated[
        int | None, typer.Option(help="Backbones at once; changes none of them. [default: what the device likes]")
    ] = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw backbones of proteins: N, CA, C and O of every residue, glycine but for a motif.

    Backbone i depends on --seed and i alone. Ctrl-C keeps what is finished and exits with status 130.
    """
    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.generate.backbone_records import file_in, finished, judged, page_parts, rows, write_backbones
    from atomsml.cli.generate.report import HEADER
    from atomsml.cli.output import Facts, print_json, print_table, write_summary
    from atomsml.cli.report import write_report
    from atomsml.device import select_device
    from atomsml.signals import held_stops

    started = time.perf_counter()
    _check_numbers({"-n": number, "--steps": steps, "--batch": batch}, noise_scale)
    lengths = _lengths(length)
    wanted = _contig(motif, contig, lengths)
    _check_outputs(output, picture, report)
    name = model or default_generator("backbones")
    generator: BackboneModel = open_generator(name, "backbones", select_device(device, "float32"))
    if sampler is not None:
        generator.check_sampler(sampler)
    steps, sampler = steps or generator.default_steps, sampler or generator.default_sampler
    requests = _requests(generator, seed, number, lengths, wanted)
    notes = _outside(generator, requests)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    made: dict[int, DrawnBackbone] = {}
    failed: list[dict[str, Any]] = []

    def finish(drawn: Mapping[int, Chain]) -> None:
        known = {*made, *(each["index"] for each in failed)}
        fresh = {place: chain for place, chain in drawn.items() if place not in known}
        done = finished(fresh, requests, None if wanted is None else wanted.residues, project)
        made.update(done)
        failed.extend({"index": i, "reason": "its positions diverged"} for i in fresh if i not in done)

    folder_files = [] if output.suffix else [file_in(output, index) for index in range(number)]
    named = [output if output.suffix else None, picture, report]
    with open_outputs(context, output, named, folder_files) as files:

        def write(drawn: Mapping[int, Chain]) -> list[Path]:
            finish(drawn)
            return write_backbones(files, output, _ordered(made))

        sample = partial(generator.sample, steps=steps, sampler=sampler, noise_scale=noise_scale)
        drawn, stop = draw_samples(generator, requests, steps, sampler, batch, write, sample)
        files.interrupted = stop is not None
        with held_stops():
            outputs = write(drawn)
        kept = _ordered(made)
        if kept:
            judgement = judged(kept, len(failed))
            facts = {"command": "generate backbones", "sampler": sampler, "steps": steps, "noise_scale": noise_scale}
            facts |= {"notes": notes, **judgement}
            _draw(files, picture, kept, judgement)
            outputs += [path for path in (picture, report) if path is not None]
            where = str(generator.lengths.device)
            told = write_summary(files, output, context, Facts(name, where, len(kept), started, facts), outputs, failed)
            if report is not None:
                write_report(files, report, f"Backbones from {name}", page_parts(kept, judgement), told)
    if kept and as_json:
        print_json(facts)
    elif kept:
        print_table(HEADER, rows(judgement))
    where = f"{len(kept)} backbones are in {output}" if kept else "nothing is written"
    if stop is not None:
        end_interrupted(files, stop, f"{where}, of the {number} asked for")
    if len(kept) < number:
        raise ValueError(
            f"the positions of {number - len(kept)} of {number} backbones diverged: {where}; try more --steps"
        )


def _ordered(made: Mapping[int, DrawnBackbone]) -> list[DrawnBackbone]:
    return [made[place] for place in sorted(made)]


def _check_numbers(counts: dict[str, int | None], noise_scale: float) -> None:
    for option, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    if not (math.isfinite(noise_scale) and noise_scale >= 0):
        raise ValueError(f"--noise-scale must be a number from 0 on, got {noise_scale}")


def _lengths(text: str | None) -> tuple[int, int] | None:
    """The least and the most residues.

    Raises:
        ValueError: neither a number nor a range.
    """
    from atomsml.generative.proteins.model import MOST_RESIDUES

    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.replace(" ", ""))
    if found is None:
        raise ValueError(f"--length {text!r} is no number of residues; write 64, or 60-100")
    least, most = int(found[1]), int(found[2] or found[1])
    if not 1 <= least <= most <= MOST_RESIDUES:
        raise ValueError(f"--length {text} is no range within 1 to {MOST_RESIDUES} residues; write 64, or 60-100")
    return least, most


def _contig(motif: Path | None, contig: str | None, lengths: tuple[int, int] | None) -> Contig | None:
    from atomsml.generative.proteins.model import MOST_RESIDUES
    from atomsml.generative.proteins.motif import read_contig

    if motif is None and contig is None:
        return None
    if contig is None:
        raise ValueError("--motif needs --contig, which says what of it is held, such as 10-20,A5-25,10-20")
    if motif is None:
        raise ValueError("--contig needs --motif, the file of which it takes residues; for free ones give --length")
    found = read_contig(contig, motif, lengths)
    if found.most > MOST_RESIDUES:
        raise ValueError(f"--contig {contig} makes up to {found.most} residues; {MOST_RESIDUES} are possible")
    return found


def _requests(
    model: BackboneModel, seed: int, number: int, lengths: tuple[int, int] | None, contig: Contig | None
) -> list[BackboneRequest]:
    """One for each backbone; what is drawn of it follows from its seed."""
    import numpy as np

    from atomsml.generative.core.sampling import sample_seed
    from atomsml.generative.proteins.backbones import BackboneRequest

    seeds = [sample_seed(seed, index) for index in range(number)]
    if contig is not None:
        return [contig.request(each) for each in seeds]
    if lengths is None:
        return model.requests(seeds)
    least, most = lengths
    return [BackboneRequest(each, int(np.random.default_rng((each, 1)).integers(least, most + 1))) for each in seeds]


def _outside(model: BackboneModel, requests: Sequence[BackboneRequest]) -> list[str]:
    """What is asked for beyond what the model has learnt from."""
    seen = model.describe()
    outside = sorted({r.length for r in requests if not seen["shortest"] <= r.length <= seen["longest"]})
    if not outside:
        return []
    asked = f"{outside[0]}" if len(outside) == 1 else f"{outside[0]} to {outside[-1]}"
    return [f"the model was trained on {seen['shortest']} to {seen['longest']} residues: of {asked} it has seen none"]


def _check_outputs(output: Path, picture: Path | None, report: Path | None) -> None:
    from atomsml.cli.output import check_picture, check_writable
    from atomsml.cli.report import check_report
    from atomsml.generative.proteins.model import BackboneModel

    if not output.suffix:
        if output.exists() and not output.is_dir():
            raise NotADirectoryError(f"cannot write to {output}: it is a file; name a folder, or a file with a suffix")
        check_writable(output / "backbone")
    else:
        check_writable(output)
        if not output.name.endswith(BackboneModel.suffixes):
            known = ", ".join(BackboneModel.suffixes)
            raise ValueError(f"cannot write backbones to {output}; use the suffix {known}, or none for a folder")
    if picture is not None:
        check_picture(picture)
    check_report(report)


def _draw(files: OutputSet, picture: Path | None, made: Sequence[DrawnBackbone], judgement: dict[str, Any]) -> None:
    from atomsml.cli.generate.backbone_picture import draw_backbones

    if picture is not None:
        chains = [each.chain for each in made]
        captions = [f"{each.index}, {len(each.chain)} residues" for each in made]
        reasons = [found.get("reason", "") for found in judgement["chains"]]
        files.write(picture, lambda beside: draw_backbones(beside, chains, captions, reasons))
