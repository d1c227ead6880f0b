"""Options from a YAML file: its keys are the long option names of the command; what the command line says wins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a YAML file the defaults of the command's options.

    Raises:
        ValueError: not a YAML mapping, a key that is no option of this command, or a value of the wrong type.
        OSError: the file cannot be read.
    """
    from atomsml.yaml_file import read_mapping

    if path is None:
        return None
    options = {
        flag.removeprefix("--"): parameter
        for parameter in context.command.params
        for flag in parameter.opts
        if flag.startswith("--") and flag not in ("--config", "--help")
    }
    defaults = {}
    for key, value in read_mapping(path).items():
        option = str(key).replace("_", "-")
        if option not in options:
            raise ValueError(
                f"{path}: unknown option {key!r}; `atomsml {context.info_name}` has {', '.join(sorted(options))}"
            )
        parameter = options[option]
        values = value if isinstance(value, list) and parameter.multiple else [value]
        if not all(isinstance(each, str | int | float) for each in values):  # bool is an int
            raise ValueError(f"{path}: {option} must be one value, got {value!r}")
        texts = [str(each) for each in values]  # as on the command line, so that the same rules read and check them
        text = texts if parameter.multiple else texts[0]
        try:
            parameter.process_value(context, text)
        except typer.BadParameter as error:
            raise ValueError(f"{path}: {option} cannot be {value!r}: {error.message}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        defaults[str(parameter.name)] = text
    context.default_map = defaults
    return path


@contextmanager
def naming_config(path: Path | None) -> Iterator[None]:
    """Let an error about settings say in which file they are; the command line may have changed some."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if path is None:
            raise
        raise ValueError(f"{path}: {error}") from error
