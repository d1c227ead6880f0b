"""The record of a run survives what happens to runs: a kill, a resume, a full disk, a value that is not a number."""

from __future__ import annotations

import csv
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from atomsml.training.loggers import MetricsFile, open_loggers, read_metrics

LINES = [
    {"epoch": 1, "valid_loss": 0.1 + 0.2, "stage": 1},
    {"epoch": 2, "valid_loss": 1e-300, "stage": 1, "stress_mae": 0.25},
    {"epoch": 3, "valid_loss": 7.0, "stage": 2, "stress_mae": 0.5},
]


def written(folder: Path, lines: list[dict[str, float]]) -> MetricsFile:
    folder.mkdir(exist_ok=True)
    file = MetricsFile(folder)
    for line in lines:
        file.log(line, 10 * line["epoch"])
    return file


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_lines_and_table_hold_every_digit(tmp_path: Path) -> None:
    file = written(tmp_path, LINES)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == file.rows == [{"step": 10 * line["epoch"], **line} for line in LINES]
    for line, row in zip(lines, table(tmp_path), strict=True):  # stress_mae appears later, and is empty before
        assert {name: float(text) for name, text in row.items() if text} == line
        assert set(row) == {"step", "epoch", "valid_loss", "stage", "stress_mae"}


def test_values_that_are_not_finite_become_null(tmp_path: Path) -> None:
    written(tmp_path, []).log({"a": float("nan"), "b": float("-inf"), "c": 1.0}, 5)

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 5, "a": None, "b": None, "c": 1.0}
    assert table(tmp_path) == [{"step": "5", "a": "", "b": "", "c": "1.0"}]


def test_a_line_cut_anywhere_is_dropped_and_written_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    written(whole, LINES)
    text = contents(whole)["metrics.jsonl"]
    start = text.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(text) - 1, 7):
        folder = tmp_path / str(end)
        written(folder, LINES[:2])
        (folder / "metrics.jsonl").write_bytes(text[:end])
        assert len(read_metrics(folder / "metrics.jsonl")) == 2
        written(folder, LINES[2:])
        assert contents(folder) == contents(whole)


def test_a_damaged_line_elsewhere_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, LINES)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": '))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is not an evaluation; delete the line$"):
        MetricsFile(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_resumed_run_leaves_the_same_files(tmp_path: Path, kept: int) -> None:
    written(tmp_path / "whole", LINES)
    written(tmp_path / "resumed", LINES)
    resumed = MetricsFile(tmp_path / "resumed")
    resumed.truncate(10 * kept + 3)
    assert [row["epoch"] for row in resumed.rows] == [1, 2, 3][:kept]
    assert len(table(tmp_path / "resumed")) == kept
    for line in LINES[kept:]:
        resumed.log(line, 10 * line["epoch"])
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def write_until_killed(folder: Path, logged: Any) -> None:
    file = MetricsFile(folder)
    for step in itertools.count(1):
        file.log({"valid_loss": 1 / step}, step)
        logged.value = step


@pytest.mark.parametrize("milliseconds", [0, 3, 31])
def test_a_killed_writer_has_kept_what_it_logged(tmp_path: Path, milliseconds: int) -> None:
    processes = multiprocessing.get_context("fork")
    logged = processes.Value("i", 0, lock=False)
    writer = processes.Process(target=write_until_killed, args=(tmp_path, logged))
    writer.start()
    while logged.value < 3:
        assert writer.is_alive()
        time.sleep(0.001)
    time.sleep(milliseconds / 1000)
    writer.kill()
    writer.join()
    rows = MetricsFile(tmp_path).rows
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= logged.value
    assert [int(row["step"]) for row in table(tmp_path)] == [row["step"] for row in rows]


def test_a_full_disk_is_a_clear_error_and_the_run_can_go_on(tmp_path: Path) -> None:
    file = written(tmp_path, LINES[:2])
    size = (tmp_path / "metrics.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))  # stands in for the end of the disk
    try:
        with pytest.raises(OSError, match=r"cannot write .*metrics\.jsonl: .*; make room and resume the run$"):
            file.log(LINES[2], 30)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "metrics.jsonl").stat().st_size == size + 20  # half a line
    written(tmp_path, LINES[2:])
    written(tmp_path / "whole", LINES)
    assert read_metrics(tmp_path / "metrics.jsonl") == read_metrics(tmp_path / "whole" / "metrics.jsonl")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_service_that_is_not_installed_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # how Python says that a module cannot be imported
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=rf"^loggers: {name} is not installed; run `pip install {name}`"):
        open_loggers([name], tmp_path, {})


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loggers: 'excel' is not known; choose from tensorboard, wandb"):
        open_loggers(["excel"], tmp_path, {})


def test_tensorboard_shows_the_curve_of_a_resumed_run_once(tmp_path: Path) -> None:
    reason = "needs TensorBoard: pip install tensorboard"
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    for resumed_after, steps in ((None, (10, 20, 30)), (20, (30, 40))):
        (logger,) = open_loggers(["tensorboard"], tmp_path, {}, resumed_after)
        for step in steps:
            logger.log({"valid_loss": 1 / step, "stress_mae": None, "note": "text"}, step)
        logger.close()
    found = events.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["valid_loss"]
    assert [event.step for event in found.Scalars("valid_loss")] == [10, 20, 30, 40]
    assert [event.value for event in found.Scalars("valid_loss")] == pytest.approx([0.1, 0.05, 1 / 30, 0.025])


def test_wandb_stays_offline_unless_told_otherwise(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs Weights & Biases: pip install wandb")
    code = (
        "from pathlib import Path; from atomsml.training.loggers import open_loggers\n"
        f"(logger,) = open_loggers(['wandb'], Path({str(tmp_path)!r}), {{'model_of_this_run': 'mace'}})\n"
        "logger.log({'valid_loss': 0.5, 'stress_mae': None}, 10); logger.close()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    (record,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert all(word in record.read_bytes() for word in (b"valid_loss", b"model_of_this_run"))
