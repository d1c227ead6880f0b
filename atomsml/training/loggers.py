"""What a run writes about itself while it goes: metrics.jsonl and metrics.csv, and on request TensorBoard and W&B.

The files are the record: complete after every evaluation, repaired after a kill, and cut back to the checkpoint on
resume, so that an interrupted run leaves the same lines as any other. The services are copies of them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atomsml.io import write_atomically

Row = dict[str, Any]  # one evaluation: a line of metrics.jsonl


class Logger(ABC):
    """Receives the metrics of every evaluation."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float | str | None], step: int) -> None:
        """Record metrics, by name and without the step itself, of an optimiser step."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still in memory."""


class MetricsFile(Logger):
    """Keeps the evaluations in `rows`, as lines of metrics.jsonl, and as the table metrics.csv; NaN becomes null.

    Continues the files that it finds in `folder`; half a line at the end, left by a killed run, is dropped. A line is
    on the disk when `log` returns.

    Raises:
        ValueError: metrics.jsonl is damaged elsewhere than in its last line.
        OSError: the files cannot be written, for instance on a full disk.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.table = folder / "metrics.csv"
        self.rows = read_metrics(self.path) if self.path.exists() else []
        self._rewrite()

    def log(self, metrics: Mapping[str, float | str | None], step: int) -> None:
        row = {"step": step, **{name: _finite(value) for name, value in metrics.items()}}
        self.rows.append(row)
        _append(self.path, _json_line(row))
        if set(self._columns) >= set(row):
            _append(self.table, _csv([row], self._columns))
        else:
            self._rewrite_table()

    def truncate(self, after_step: int) -> None:
        """Drop what was recorded after a step: the checkpoint from which a run resumes does not know of it."""
        self.rows = [row for row in self.rows if row["step"] <= after_step]
        self._rewrite()

    def close(self) -> None:
        """Nothing is in memory only."""

    def _rewrite(self) -> None:
        _replace(self.path, "".join(map(_json_line, self.rows)))
        self._rewrite_table()

    def _rewrite_table(self) -> None:
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        header = dict(zip(self._columns, self._columns, strict=True))
        _replace(self.table, _csv([header, *self.rows] if self.rows else [], self._columns))


def read_metrics(path: Path) -> list[Row]:
    """The evaluations of a metrics.jsonl, also of a run that goes on or was killed while it wrote the last line.

    Raises:
        ValueError: a damaged line that is not the last.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise ValueError("no step")
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not an evaluation; delete the line") from None
        else:
            rows.append(row)
    return rows


class TensorBoardLogger(Logger):
    """Writes scalars to `folder`/tensorboard for `tensorboard --logdir`.

    `resumed_after` is the step of the checkpoint from which a run resumes: what is there of later ones is hidden.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, resumed_after: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(_missing("tensorboard")) from None
        purge = None if resumed_after is None else resumed_after + 1
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def log(self, metrics: Mapping[str, float | str | None], step: int) -> None:
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbLogger(Logger):
    """Weights & Biases, offline unless the environment variable WANDB_MODE says otherwise.

    Without WANDB_MODE=online nothing leaves the machine: the run is written to `folder`/wandb, and `wandb sync` uploads
    it later. `config` is shown beside the curves. A resumed run is one of its own there, under the same name.

    Raises:
        ValueError: W&B is not installed, or refuses to start, for instance because nobody is logged in.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":  # its reports about itself need the network; it reads this variable when imported
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError:
            raise ValueError(_missing("wandb")) from None
        name = folder.resolve().name
        try:
            self._run = wandb.init(project="atomsml", name=name, dir=str(folder), config=dict(config), mode=mode)
        except (wandb.errors.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"wandb does not start: {reason}; log in, or set WANDB_MODE=offline") from None

    def log(self, metrics: Mapping[str, float | str | None], step: int) -> None:
        self._run.log({name: value for name, value in metrics.items() if value is not None}, step=step)

    def close(self) -> None:
        self._run.finish()


def open_loggers(
    names: Sequence[str], folder: Path, config: Mapping[str, Any], resumed_after: int | None = None
) -> list[Logger]:
    """The services that `names` asks for.

    Raises:
        ValueError: one that is not known or not installed.
    """
    loggers: list[Logger] = []
    for name in names:
        if name == "tensorboard":
            loggers.append(TensorBoardLogger(folder, resumed_after))
        elif name == "wandb":
            loggers.append(WandbLogger(folder, config))
        else:
            raise ValueError(f"loggers: {name!r} is not known; choose from tensorboard, wandb")
    return loggers


def _missing(package: str) -> str:
    return f"loggers: {package} is not installed; run `pip install {package}`, or leave it out"


def _finite(value: float | str | None) -> float | str | None:
    """JSON has no NaN and no infinity: None instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv(rows: Sequence[Row], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _append(path: Path, text: str) -> None:
    _write(path, text, "a", path)


def _replace(path: Path, text: str) -> None:
    write_atomically(path, lambda beside: _write(beside, text, "w", path))


def _write(path: Path, text: str, mode: str, shown: Path) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"cannot write {shown}: {error.strerror}; make room and resume the run") from error
