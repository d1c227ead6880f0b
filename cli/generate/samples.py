"""`atomsml generate KIND`: draw what a generator of any kind makes, and write it in the format of that kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import ConfigOption, DeviceOption, JsonOption, SeedOption

if TYPE_CHECKING:
    from atomsml.generative.core.generator import Generator


def samples(
    context: typer.Context,
    number: Annotated[int, typer.Option("--number", "-n", help="How many samples.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where they go. [default: KIND, in the usual format]")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name of an embedded generator, or a file. [default: the embedded one]"),
    ] = None,
    seed: SeedOption = 0,
    steps: Annotated[int | None, typer.Option(help="Steps from noise. [default: what suits the model]")] = None,
    sampler: Annotated[str | None, typer.Option(help="How to step. [default: what suits the model]")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Samples at once; changes none of them. [default: what the model likes]")
    ] = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw samples of any other KIND that there is a generator of.

    Sample i depends on --seed and i alone. Ctrl-C keeps what is finished and exits with status 130.
    """
    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.output import Facts, check_writable, print_json, write_summary
    from atomsml.device import select_device
    from atomsml.generative.core.sampling import sample_seed

    started, kind = time.perf_counter(), str(context.info_name)
    for option, value in {"-n": number, "--steps": steps, "--batch": batch}.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    name = model or default_generator(kind)
    generator = open_generator(name, kind, select_device(device, "float32"))
    if sampler is not None:
        generator.check_sampler(sampler)
    output = output or Path(f"{kind}{generator.suffixes[0]}")
    check_writable(output)
    if output.suffix not in generator.suffixes:
        raise ValueError(f"cannot write {kind} to {output}; use the suffix {', '.join(generator.suffixes)}")
    steps, sampler = steps or generator.default_steps, sampler or generator.default_sampler
    report = {"command": f"generate {kind}", "steps": steps, "sampler": sampler}
    with open_outputs(context, output, [output]) as files:

        def write(samples: Mapping[int, Any]) -> None:
            files.write(output, lambda beside: generator.write(beside, list(samples.values())))

        requests = generator.requests([sample_seed(seed, index) for index in range(number)])
        drawn, stop = draw_samples(generator, requests, steps, sampler, batch, write)
        files.interrupted = stop is not None
        if drawn:
            write(drawn)
            report |= {"drawn": len(drawn), **generator.judge(list(drawn.values()))}
            where = str(next(generator.parameters()).device)
            write_summary(files, output, context, Facts(name, where, len(drawn), started, report), [output], [])
    if drawn and as_json:
        print_json(report)
    elif drawn:
        typer.echo(f"{len(drawn)} {kind} are in {output}")
    if stop is not None:
        where = f"{len(drawn)} {kind} are in {output}" if drawn else "nothing is written"
        end_interrupted(files, stop, f"{where}, of the {number} asked for")


GROWING = "qm9-symphony"  # the embedded generator that goes on from atoms that are given
DEFAULTS = ("qm9-graph-flow", "qm9-flow")  # the first that is there, where several generators of a kind are embedded


def default_generator(kind: str) -> str:
    """The embedded generator of a kind that is taken where none is named.

    Raises:
        ValueError: there is none or there are several, or nothing that draws such a kind.
    """
    from atomsml.config import did_you_mean
    from atomsml.generative import GENERATORS
    from atomsml.modelfile import embedded_models, generated_kind, read_metadata

    names = [name for name in embedded_models() if generated_kind(read_metadata(name)) == kind]
    chosen = names if len(names) == 1 else [name for name in DEFAULTS if name in names]
    if chosen:
        return chosen[0]
    kinds = list(dict.fromkeys(model_class.kind for model_class in GENERATORS.values()))
    if kind not in kinds:
        raise ValueError(
            f"nothing draws {kind!r}; {did_you_mean(kind, kinds)}there are generators of {', '.join(kinds)}"
        )
    raise ValueError(f"no single embedded generator of {kind}; give --model: {', '.join([*names, 'or a file'])}")


def open_generator(name: str, kind: str, device: Any) -> Any:
    """The generator of an embedded name or of a file, which must be of this kind.

    Raises:
        ValueError: what `load_generator` refuses, or another kind.
    """
    from atomsml.generative.core.modelfile import load_generator

    generator = load_generator(name, device)
    if generator.kind != kind:
        raise ValueError(f"{name} draws {generator.kind}, not {kind}; use `atomsml generate {generator.kind}`")
    return generator


def draw_samples(
    generator: Generator[Any, Any, Any],
    requests: Sequence[Any],
    steps: int,
    sampler: str,
    batch: int | None,
    write: Callable[[Mapping[int, Any]], object],
    sample: Callable[[Sequence[Any]], Iterator[Any]] | None = None,
) -> tuple[dict[int, Any], KeyboardInterrupt | None]:
    """The samples by the places of their requests, in order, of which those that are finished are written now and then.

    And the request to stop, if one came before all were finished. `sample` is `generator.sample` with steps, sampler
    and whatever else a kind can be told; without it, with these two.
    """
    from atomsml.cli.files import now_and_then
    from atomsml.cli.output import follow
    from atomsml.generative.core.sampling import draw
    from atomsml.signals import held_stops

    number = len(requests)
    batches = generator.batches(requests, batch)
    states_each = generator.num_states(steps, sampler)
    total = None if states_each is None else states_each * len(batches)
    states = draw(generator, requests, batches, sample or partial(generator.sample, steps=steps, sampler=sampler))
    drawn: dict[int, Any] = {}
    keep = now_and_then(lambda: write(dict(sorted(drawn.items()))))
    stop = None
    try:
        for state in follow(states, total, "generate", lambda state: f"{state.finished} of {number} {generator.kind}"):
            if state.drawn:
                with held_stops():
                    drawn |= state.drawn
                    keep()
    except KeyboardInterrupt as error:
        stop = error
    return dict(sorted(drawn.items())), stop
