"""Plots say what numpy says, survive any data, and draw foreign text as it stands.

Written as SVG with its texts kept as texts, a plot can be read back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from atomsml.training.evaluation.metrics import Collected
from atomsml.training.evaluation.plots import COLORS, learning_curves, parity_plot


def made(structures: int, config_types: Sequence[str] = ("",), atoms: int = 2, energy: float = -3.0) -> Collected:
    """Labels with noise as predictions."""
    rng = np.random.default_rng(0)
    label = {
        "energy": energy + rng.normal(size=structures),
        "forces": 2 * rng.normal(size=(structures * atoms, 3)),
        "stress": 0.002 * rng.normal(size=(structures, 3, 3)),
    }
    return Collected(
        config_types=np.resize(np.array(config_types, dtype=np.str_), structures),
        num_atoms=np.full(structures, atoms),
        numbers=np.ones(structures * atoms, dtype=np.int64),
        **{f"{name}_label": values for name, values in label.items()},
        **{f"{name}_predicted": x + 0.01 * rng.normal(size=x.shape) for name, x in label.items()},
    )


def texts(draw: Callable[[Path], None], path: Path) -> list[str]:
    """What is written in a plot, line by line."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(path)
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in found]


def used_colors(path: Path) -> set[str]:
    """Colours of points, of which black is left out: axes are black as well."""
    text = path.read_text(encoding="utf-8")
    return {color for color in COLORS[:-1] if f"fill: {color.lower()}" in text}


@pytest.mark.parametrize("structures", [1, 3000])  # 3,000 structures have more than 5,000 forces: a density
def test_corners_hold_the_errors_that_numpy_finds(tmp_path: Path, structures: int) -> None:
    collected = made(structures)
    found = texts(lambda path: parity_plot(collected, path), tmp_path / "parity.svg")
    for name, unit in (("energy", "meV/atom"), ("forces", "meV/Å"), ("stress", "meV/Å³")):
        error = 1000 * (getattr(collected, f"{name}_predicted") - getattr(collected, f"{name}_label"))
        assert f"MAE {np.mean(np.abs(error)):,.4g} {unit}" in found
        assert f"RMSE {np.sqrt(np.mean(error**2)):,.4g} {unit}" in found
        assert f"n = {error.size:,}, mean error {np.mean(error):,.3g}" in found


def test_missing_labels_are_left_out_and_missing_predictions_are_counted(tmp_path: Path) -> None:
    collected = made(10)
    collected.energy_label[:4] = np.nan
    collected.energy_predicted[3:6] = np.nan  # two of them have a label
    collected.stress_label[:] = np.nan
    found = texts(lambda path: parity_plot(collected, path), tmp_path / "parity.svg")
    assert "2 without a finite prediction" in found
    assert sum(text.startswith("n = ") for text in found) == 2  # no stress
    assert any(text.startswith("n = 4,") for text in found)


def test_a_wild_prediction_is_counted_and_does_not_hide_the_others(tmp_path: Path) -> None:
    collected = made(40)
    collected.forces_predicted[7, 1] = 1e6
    found = texts(lambda path: parity_plot(collected, path), tmp_path / "parity.svg")
    assert "1 far outside" in found
    assert "1 beyond these limits" in found
    error = 1000 * (collected.forces_predicted - collected.forces_label)
    assert f"RMSE {np.sqrt(np.mean(error**2)):,.4g} meV/Å" in found
    ticks = [float(text.replace("−", "-")) for text in found if text.lstrip("−").replace(".", "").isdigit()]
    assert max(ticks) < 1000


def test_total_energies_far_from_zero_keep_their_digits(tmp_path: Path) -> None:
    collected = made(5, energy=-1e5)
    found = texts(lambda path: parity_plot(collected, path), tmp_path / "parity.svg")
    (label,) = (text for text in found if text.startswith("energy, label"))
    origin = float(label.partition("above ")[2].rstrip(")").replace(",", ""))
    assert abs(origin + 1e5) < 5


def test_config_types_have_colours_and_are_no_formulas(tmp_path: Path) -> None:
    names = ["$x^{$", "<b>&amp;", "_hidden", "two\nlines", ""]
    collected = made(20, names)
    found = texts(lambda path: parity_plot(collected, path), tmp_path / "parity.svg")
    assert {"$x^{$", "<b>&amp;", "_hidden", "two?lines", "(none)"} <= set(found)
    assert used_colors(tmp_path / "parity.svg") == set(COLORS[:5])


def test_config_types_have_colours_also_where_there_are_many_points(tmp_path: Path) -> None:
    collected = made(3000, ["bulk", "slab"])  # 18,000 components of forces
    found = texts(lambda path: parity_plot(collected, path), tmp_path / "parity.svg")
    assert {"bulk", "slab", "5,000 of 18,000 drawn"} <= set(found)
    assert used_colors(tmp_path / "parity.svg") == set(COLORS[:2])


def test_many_config_types_share_one_colour(tmp_path: Path) -> None:
    parity_plot(made(20, [f"type {i}" for i in range(9)]), tmp_path / "parity.svg")
    assert used_colors(tmp_path / "parity.svg") == {COLORS[0]}


HOSTILE: dict[str, Collected] = {
    "diverged": replace(made(3000), energy_predicted=np.full(3000, 1e9), forces_predicted=np.full((6000, 3), -1e30)),
    "no predictions": replace(
        made(2),
        energy_predicted=np.full(2, np.nan),
        forces_predicted=np.full((4, 3), np.inf),
        stress_predicted=np.full((2, 3, 3), np.nan),
    ),
    "one exact": replace(made(1), energy_predicted=made(1).energy_label),
    "constant": replace(made(6000), energy_label=np.full(6000, -7.0), energy_predicted=np.full(6000, -7.0)),
    "no structures": made(0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_strange_data_are_drawn_without_a_warning(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parity_plot(HOSTILE[name], tmp_path / "parity.png")
    picture = matplotlib.image.imread(tmp_path / "parity.png")[..., :3]
    assert picture.std() > 0
    assert picture.shape[0] == 720  # readable, and at most three panels wide
    assert picture.shape[1] <= 1320


def run(evaluations: int, stage_two: int | None = None, minutes: float = 10.0) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl, without stress labels."""
    rows = []
    for i in range(evaluations):
        error = 100.0 * 0.9**i
        rows.append(
            {
                "step": 100 * (i + 1),
                "epoch": i + 1,
                "minutes": minutes * (i + 1) / evaluations,
                "stage": 2 if stage_two is not None and i >= stage_two else 1,
                "learning_rate": 0.01 / (i + 1),
                "train_loss": error,
                "valid_loss": None if i == 1 else 2 * error,
                "energy_mae": error,
                "energy_rmse": error,
                "forces_mae": error,
                "forces_rmse": error,
            }
        )
    return rows


def test_learning_curves_have_a_panel_for_what_was_measured(tmp_path: Path) -> None:
    found = texts(lambda path: learning_curves(run(30, stage_two=20), path), tmp_path / "curves.svg")
    assert {"loss", "energy error (meV/atom)", "force error (meV/Å)", "learning rate", "stage two"} <= set(found)
    assert "stress error (meV/Å³)" not in found
    assert found.count("minutes (to epoch 30, step 3,000)") == 4
    found = texts(lambda path: learning_curves(run(3, minutes=600.0), path), tmp_path / "curves.svg")
    assert "hours (to epoch 3, step 300)" in found
    assert "stage two" not in found


@pytest.mark.parametrize(
    "rows",
    [
        [],
        run(1),
        run(500),
        [{"step": 5, "valid_loss": 0.0}],
        [{"step": 1, "train_loss": None}],
        [{"step": 1, "minutes": 0.0, "valid_loss": -1.0}, {"step": 2, "minutes": 0.0, "valid_loss": 3.0}],
    ],
    ids=["none", "one", "many", "zero", "nothing finite", "no time passed"],
)
def test_any_record_is_drawn_without_a_warning(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learning_curves(rows, tmp_path / "curves.png")
    assert matplotlib.image.imread(tmp_path / "curves.png").shape[1] == 900
