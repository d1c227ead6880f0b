"""`atomsml models` without fetched models (those: test_fetch.py), `atomsml info`, and the default model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk

from atomsml.generative.core.modelfile import load_generator
from atomsml.modelfile import embedded_models, generated_kind, load, model_hash, read_metadata

Run = Callable[..., Any]


def test_models_json_describes_the_embedded_models(run: Run, cache: Path) -> None:
    records = json.loads(run("models", "--json").out)
    embedded = [record for record in records if record["status"] == "embedded"]
    assert [record["name"] for record in embedded] == list(embedded_models())
    assert {tuple(record) for record in records} == {tuple(embedded[0])}  # the same keys
    for record in embedded:
        elements = record["elements"]  # which backbones of proteins do not say
        assert record["num_elements"] == (None if elements is None else len(elements))
        opened = load if generated_kind(read_metadata(record["name"])) is None else load_generator
        assert record["parameters"] == sum(p.numel() for p in opened(record["name"]).parameters())


def test_models_table_has_a_line_per_model(run: Run, cache: Path) -> None:
    lines = run("models").out.splitlines()
    assert lines[0].split()[:4] == ["name", "status", "kind", "elements"]
    names = [record["name"] for record in json.loads(run("models", "--json").out)]
    assert [line.split()[0] for line in lines[1:]] == names
    assert names[: len(embedded_models())] == list(embedded_models())


def test_a_cache_that_cannot_be_made_does_not_hide_the_other_models(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATOMSML_CACHE", str(tmp_path / "file" / "cache"))
    result = run("models", "--json")
    assert [record["name"] for record in json.loads(result.out)][: len(embedded_models())] == list(embedded_models())
    assert result.status == 0
    assert "set ATOMSML_CACHE to a folder of your own; which models were fetched is not known" in result.err


def test_info_prints_the_metadata_and_the_hash(run: Run, model: str) -> None:
    about = json.loads(run("info", model, "--json").out)
    assert about["sha256"] == model_hash(model)
    assert about["file"] == model
    assert {key: about[key] for key in read_metadata(model)} == read_metadata(model)
    text = run("info", model).out
    for piece in ("architecture: mace", "elements: [H, C, O, Cu]", "cutoff: 3.5", "licence: MIT", about["sha256"]):
        assert piece in text


@pytest.mark.parametrize(("name", "charge", "spin"), [("organic-xtb", 0, 1), ("universal-small", 0, None)])
def test_info_shows_what_charge_and_spin_a_model_holds_for(run: Run, name: str, charge: int, spin: int | None) -> None:
    about = json.loads(run("info", name, "--json").out)
    assert (about["charge"], about["spin"]) == (charge, spin)
    assert f"charge: {charge}\nspin: {'null' if spin is None else spin}\n" in run("info", name).out


def test_default_model_fits_the_elements_and_is_named(run: Run) -> None:
    result = run("energy", "CCO", "--json")
    assert result.status == 0
    assert result.err == "model: organic-xtb, chosen by the elements (--model takes another)\n"


def test_no_default_model_for_unknown_elements(run: Run) -> None:
    result = run("energy", "[Xe]")
    assert result.status == 1
    assert "no default model for molecules of Xe; choose one with --model" in result.err
    assert "universal-small (made for crystals)" in result.err


def crystal(name: str, *arguments: Any, **keywords: Any) -> str:
    bulk(*arguments, **keywords).write(name)
    return name


def test_crystals_of_other_elements_have_the_universal_model_which_says_what_it_is(run: Run) -> None:
    result = run("energy", crystal("salt.cif", "NaCl", "rocksalt", a=5.64), "-o", "out.extxyz")
    assert result.status == 0
    note = read_metadata("universal-small")["note"]
    assert "small student" in note
    assert result.err == f"model: universal-small, chosen by the elements (--model takes another): {note}\n"
    summary = json.loads(Path("out.summary.json").read_text())
    assert summary["model"] == {"name": "universal-small", "sha256": model_hash("universal-small"), "note": note}


def test_the_special_model_is_taken_where_it_knows_all_elements(run: Run) -> None:
    metal, salt = crystal("metal.cif", "Nb"), crystal("salt.cif", "NaCl", "rocksalt", a=5.64)
    assert run("energy", metal).err.startswith("model: refractory-pbe, ")
    assert run("energy", metal, salt).err.startswith("model: universal-small, ")
    assert run("energy", salt, "CCO").err.startswith(
        "error: no default model for crystals and molecules of C Cl H Na O"
    )


def test_molecules_and_crystals_that_no_model_was_made_for_are_refused_among_others(run: Run) -> None:
    silane = run("energy", "CCO", "C[SiH3]")
    assert (silane.status, silane.out.count("\n")) == (1, 2)
    assert (
        "C[SiH3], frame 0: has Si, which no embedded model for molecules knows; choose one with --model" in silane.err
    )
    polonium = run("energy", crystal("metal.cif", "Nb"), crystal("po.cif", "Po", "sc", a=3.35))
    assert polonium.status == 1
    assert "po.cif, frame 0: has Po, which no embedded model for crystals knows; choose another" in polonium.err


def test_the_universal_model_treats_molecules_when_it_is_asked_for(run: Run) -> None:
    assert run("energy", "C[SiH3]", "-m", "universal-small").status == 0
