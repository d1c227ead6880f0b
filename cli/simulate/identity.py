"""What must be the same where a run goes on: --resume of another run is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import ase

    from atomsml.io import Refused, StructureRecord

ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run of the same ended.")]
# what may be another when a run goes on
FREE = {"inputs", "config", "resume", "as_json", "device", "strict", "output", "model", "report", "analyze"}


def run_identity(
    context: typer.Context,
    model: str,
    inputs: Sequence[StructureRecord | Refused],
    free: Collection[str] = FREE,
    beside: Mapping[str, ase.Atoms | str] | None = None,
) -> dict[str, Any]:
    """What must be the same where a run goes on, options but for the `free` ones; as JSON gives it back.

    Args:
        beside: what was read beside the inputs, by names: structures, or words that say all of it.
    """
    from atomsml.cli.output import model_facts
    from atomsml.io import Refused
    from atomsml.io.digest import digest_of

    options = {key: value for key, value in context.params.items() if key not in free}
    of_inputs = ((f"{each.file}\n{each.index}", "" if isinstance(each, Refused) else each.atoms) for each in inputs)
    found = {"options": options, "model": model_facts(model)["sha256"], "inputs": digest_of(of_inputs)}
    if beside:
        found["beside"] = digest_of(beside.items())
    same: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return same


def check_same_run(told: Mapping[str, Any], identity: Mapping[str, Any], where: Path) -> None:
    """Refuse to go on with another run.

    Raises:
        ValueError: says what differs.
    """
    advice = "give what that had, or begin anew without --resume and with another output"
    then, now = told.get("options", {}), identity["options"]
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            raise ValueError(f"{where} is of a run {_with(key, then)}, not {_with(key, now)}; {advice}")
    parts = {
        "model": "another model",
        "inputs": "other inputs, or inputs that were changed since",
        "beside": "other structures in its options, or some that were changed since",
    }
    for key, what in parts.items():
        if told.get(key) != identity.get(key):
            raise ValueError(f"{where} is of a run with {what}; {advice}")


def _with(key: str, options: Mapping[str, Any]) -> str:
    """An option of a command line, in words."""
    option, value = f"--{key.replace('_', '-')}", options.get(key)
    if value is None or value is False:
        return f"without {option}"
    return f"with {option}" if value is True else f"with {option} {value}"
