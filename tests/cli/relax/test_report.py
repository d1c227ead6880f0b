"""The page of `atomsml relax --report`: structures before and after, beside the table, and what was refused."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.build import bulk, molecule

from tests.browser import viewer_data

Run = Callable[..., Any]


def places(frame: dict[str, Any]) -> np.ndarray:
    return np.reshape(frame["places"], (-1, 3)) / 1000


def test_structures_are_there_before_and_after(run: Run, model: str) -> None:
    water = molecule("H2O")
    water.positions[1] *= 1.1
    ase.io.write("<b>.xyz", water)
    ase.io.write("copper.cif", bulk("Cu", cubic=True))
    ase.io.write("two.extxyz", ase.Atoms("H2", np.zeros((2, 3))))
    words = ("--steps", 3, "-m", model, "--report", "page.html", "--json")
    result = run("relax", "copper.cif", "<b>.xyz", "two.extxyz", *words)
    text = Path("page.html").read_text(encoding="utf-8")
    copper, found = viewer_data(text)["scenes"]
    assert (copper["name"], found["name"]) == ("copper.cif, frame 0: Cu4", "<b>.xyz, frame 0: H2O")
    assert (found["labels"], found["opening"]) == (["before", "after"], 1)
    relaxed = ase.io.read("relaxed.extxyz", ":")
    assert np.allclose(places(found["frames"][0]), water.positions, atol=6e-4)
    assert np.allclose(places(found["frames"][1]), relaxed[1].positions, atol=6e-4)
    assert np.allclose(np.reshape(copper["frames"][1]["cell"], (3, 3)) / 1000, relaxed[0].cell.array, atol=6e-4)
    records = json.loads(result.out)
    for record in records[:2]:
        assert f"<td>{record['energy']:.6f}</td>" in text
    assert "two.extxyz, frame 0: " in text
    assert html.escape("<b>.xyz") in text
    assert "<b>.xyz<" not in text
    summary = json.loads(Path("relaxed.summary.json").read_text())
    assert summary["outputs"] == ["relaxed.extxyz", "relaxed.csv", "page.html"]
    assert "<tr><th>steps</th><td>3</td></tr>" in text


def test_each_shard_has_a_page(run: Run, model: str) -> None:
    for part in (0, 1):
        words = ("--shard", f"{part}/2", "-m", model, "--steps", 1, "-o", "out/", "--report", "out/page.html")
        run("relax", "O", "[H][H]", "C", *words)
    pages = [Path(f"out/page-{part}-of-2.html").read_text(encoding="utf-8") for part in (0, 1)]
    names = [[scene["name"] for scene in viewer_data(page)["scenes"]] for page in pages]
    assert names == [["O, frame 0: H2O", "C, frame 0: CH4"], ["[H][H], frame 0: H2"]]


def test_another_suffix_is_refused_before_the_work(run: Run, model: str) -> None:
    result = run("relax", "O", "-m", model, "--report", "page.pdf")
    assert result.status == 1
    assert result.err == "error: cannot write the report page.pdf; use the suffix .html\n"
    assert list(Path().iterdir()) == []
