"""`atomsml evaluate likelihood`: how likely a generator finds samples that it has not learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import ConfigOption, DeviceOption, JsonOption, SeedOption

if TYPE_CHECKING:
    from atomsml.generative.core.generator import Generator
    from atomsml.generative.core.set import SampleSet


def evaluate_likelihood(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A generator's name or file.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Samples it has not learnt from, as `train` reads them.")
    ],
    draws: Annotated[int, typer.Option(min=1, help="Random times of each sample; more make the mean surer.")] = 1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The variational bound of -log p of samples, in nats: the mean and its 95 % confidence interval.

    Of edm it is that of positions in Angstrom, elements and the number of atoms, as in the EDM paper. The fewer nats,
    the likelier the generator finds the samples. Generators without such a bound are refused.

    A sample of a size that the generator never draws has an infinite bound: it is left out of the mean and counted, and
    the exit status is 1.
    """
    from atomsml.cli.output import number, print_json, print_table
    from atomsml.device import select_device
    from atomsml.generative.core.likelihood import likelihood
    from atomsml.generative.core.modelfile import load_generator

    generator = load_generator(model, select_device(device, "float32"))
    if not generator.has_bound:
        raise ValueError(
            f"{model}: {type(generator).__name__} has no bound of the likelihood; edm is a generator with one"
        )
    samples: SampleSet[Any] = generator.read(inputs)
    _check_conditions(model, generator, samples)
    found = likelihood(generator, samples, draws, seed)
    if as_json:
        print_json({"model": model, "inputs": inputs, "draws": draws, "seed": seed, **found.to_json()})
    else:
        said = found.to_json()
        values = [number(said[name], 2) for name in ("nll_bound", "low", "high")]
        header = ["metric", "value", "from", "to", "unit", f"of {generator.kind}"]
        print_table(header, [["bound of -log p", *values, "nats", str(found.of)]])
    if found.infinite:
        typer.echo(
            f"error: {found.infinite} of {len(samples)} {generator.kind} have a size that no training sample of "
            f"{model} has, and an infinite bound; the mean is that of the others",
            err=True,
        )
        raise typer.Exit(1)


def _check_conditions(model: str, generator: Generator[Any, Any, Any], samples: SampleSet[Any]) -> None:
    missing = [name for name in generator.config.conditions if name not in samples.properties]
    if missing:
        raise ValueError(
            f"{model} knows how likely samples are given their {missing[0]!r}, which the files do not have; add it as "
            "a property of each"
        )
