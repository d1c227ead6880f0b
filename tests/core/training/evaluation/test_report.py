"""A report holds the numbers that it was given, nothing that a browser would load or run, and foreign text as text."""

from __future__ import annotations

import base64
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from atomsml.training.evaluation.metrics import Collected
from atomsml.training.evaluation.report import ReportFacts, write_report

ATTACK = '<script>alert(\'x\')</script>" onload="y" {body} & http://example.org/a.png'
ERRORS = {
    "structures": 2,
    "energies": 2,
    "energy_mae": 12.25,
    "energy_rmse": 13.5,
    "force_components": 6,
    "forces_mae": 1234.5,
    "stresses": 0,
}


class Page(HTMLParser):
    """Tags in balance, attributes, cells of tables, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.tables: list[list[list[str]]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] != "style":
            self.words += data


def made() -> ReportFacts:
    values = np.array([1.0, 2.0])
    nothing, none = np.full((2, 3), np.nan), np.full((2, 3, 3), np.nan)
    return ReportFacts(
        title=ATTACK,
        judged_on="test",
        metrics=[{"step": 1, "minutes": 0.5, "valid_loss": 3.0}, {"step": 2, "minutes": 1.0, "valid_loss": 2.0}],
        errors={ATTACK: ERRORS, "all": ERRORS},
        errors_by_element={"H": {"force_components": 6, "forces_mae": 77.5, "forces_rmse": 88.5}},
        collected=Collected(
            np.array([ATTACK, ""]),
            np.array([1, 1]),
            np.array([1, 1]),
            values,
            values + 0.1,
            *[nothing] * 2,
            *[none] * 2,
        ),
        data=[
            {"set": "train", "file": ATTACK, "structures": 12345, "energy": 12345},
            {"set": "test", "structures": 2, "energy": 2, "stress": 0},
        ],
        references={"H": -13.5872331},
        references_kind="isolated atoms",
        run={"seed": 0, "model": ATTACK},
        versions={"torch": "2.13.0"},
        config=f"model: mace\nname: {ATTACK}\n",
        warnings=[ATTACK],
    )


def page(folder: Path, facts: ReportFacts) -> Page:
    write_report(folder, facts)
    parsed = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert parsed.open == []
    return parsed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def parsed(folder: Path) -> Page:
    return page(folder, made())


def test_foreign_text_is_text_and_nothing_is_loaded(parsed: Page, folder: Path) -> None:
    assert parsed.tags.isdisjoint({"script", "link", "iframe", "object", "a", "b<script"})
    names = {name for name, _ in parsed.attributes}
    assert names == {"lang", "charset", "name", "content", "http-equiv", "class", "alt", "src"}
    assert all(value.startswith("data:image/png;base64,") for name, value in parsed.attributes if name == "src")
    assert "url(" not in (folder / "report.html").read_text(encoding="utf-8")
    assert parsed.words.count(ATTACK) == 2 + 1 + 1 + 1 + 1 + 1  # title and heading, warning, errors, data, run, config


def test_the_images_are_those_in_the_folder(parsed: Page, folder: Path) -> None:
    sources = [value.partition(",")[2] for name, value in parsed.attributes if name == "src"]
    files = [folder / "learning_curves.png", folder / "parity.png"]
    assert [base64.b64decode(source) for source in sources] == [file.read_bytes() for file in files]
    assert {path.name for path in folder.iterdir()} == {"report.html", *(file.name for file in files)}


def test_tables_hold_the_numbers(parsed: Page) -> None:
    errors, elements, data, references, run, versions = parsed.tables
    assert errors[0] == ["config type", "structures", "E MAE meV/atom", "E RMSE meV/atom", "F MAE meV/A"]
    assert errors[1:] == [[name, "2", "12.25", "13.50", "1234.50"] for name in (ATTACK, "all")]
    assert elements[1] == ["H", "6", "77.50", "88.50"]
    assert data[0] == ["set", "file", "structures", "energy", "stress"]
    assert data[1:] == [["train", ATTACK, "12,345", "12,345", "-"], ["test", "-", "2", "2", "0"]]
    assert references == [["element", "eV"], ["H", "-13.587233"]]
    assert run == [["seed", "0"], ["model", ATTACK]]
    assert versions == [["torch", "2.13.0"]]


def test_the_headline_is_the_error_over_all_structures(parsed: Page) -> None:
    assert "2 structures of the test set" in parsed.words
    assert "12.25 meV/atomEnergy MAE" in parsed.words
    assert "1,234 meV/ÅForce MAE" in parsed.words  # four digits, half to even
    assert "Stress" not in parsed.words


def test_a_run_with_little_to_tell_and_a_name_that_is_no_unicode_has_a_report(tmp_path: Path) -> None:
    nothing = {"metrics": [], "errors_by_element": {}, "data": [], "references": {}, "warnings": []}
    errors = {"all": {"structures": 0, "force_components": 0}}
    parsed = page(tmp_path, replace(made(), **nothing, errors=errors, run={"file": "caf\udce9.extxyz"}))
    assert "Warnings" not in parsed.words
    assert "0 structures of the test set" in parsed.words
    assert "caf?.extxyz" in parsed.words
