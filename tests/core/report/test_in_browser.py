"""The page in a real browser: it draws, says nothing on the console, asks for nothing, and does what is clicked."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.report import Scene, heading, page, section, viewer
from tests.browser import Browser, browser, needs_browser

pytestmark = needs_browser
ATTACK = '</script><script>document.title = "taken"</script><img src=x onerror="document.title = \'taken\'">'
ROWS = "[...document.querySelectorAll('tbody tr')]"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    salt, moved = bulk("NaCl", "rocksalt", 5.64, cubic=True), bulk("NaCl", "rocksalt", 5.64, cubic=True)
    moved.rattle(0.3, seed=0)
    water = [molecule("H2O") for _ in range(5)]
    for index, atoms in enumerate(water):
        atoms.rotate(20 * index, "x")
    water[3].positions[1] *= 2  # a bond that breaks, and comes back
    curves = {"energy (eV)": [-1.0, -2.0, float("nan"), -4.0, -5.0]}
    scenes = [
        Scene("salt", [moved, salt], ["before", "after"]),
        Scene(ATTACK, water, [f"{index} fs" for index in range(5)], curves),
        Scene("copper", [bulk("Cu")], ["given"]),
    ]
    rows = [["salt", "8", "-10.5"], [ATTACK, "3", "-"], ["copper", "1", "-9.25"]]
    view = viewer(scenes, ["name", "atoms", "energy"], rows)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(ATTACK, [heading(ATTACK), section("Structures", view)]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(path: Path) -> Iterator[Browser]:
    """The page, once: it takes seconds to compile shaders for a CPU."""
    with browser() as chromium:
        chromium.open(path, width=400, height=440)
        yield chromium


def choose(opened: Browser, name: str) -> None:
    opened.evaluate(f"{ROWS}.find(row => row.cells[0].textContent === {json.dumps(name)}).click()")
    assert text(opened, ".view > b") == name


def stage(opened: Browser) -> np.ndarray:
    """(height, width, 3) what the view shows now, 0 to 1."""
    opened.evaluate("document.querySelector('.stage').scrollIntoView()")
    box = json.loads(opened.evaluate("JSON.stringify(document.querySelector('.stage').getBoundingClientRect())"))
    picture = matplotlib.image.imread(io.BytesIO(opened.screenshot()))[..., :3]
    left, top, right, bottom = (int(box[side]) for side in ("left", "top", "right", "bottom"))
    return picture[top + 1 : bottom - 1, left + 1 : right - 1]


def text(opened: Browser, selector: str) -> Any:
    return opened.evaluate(f"document.querySelector({selector!r}).textContent")


def drawn(picture: np.ndarray) -> float:
    """The share of the view that is not background."""
    return float((abs(picture - picture[2, 2]).max(-1) > 0.05).mean())


def test_it_draws_loads_nothing_and_complains_of_nothing(opened: Browser, path: Path) -> None:
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]
    assert opened.evaluate("document.title") == ATTACK
    picture = stage(opened)
    assert 0.02 < drawn(picture) < 0.9
    green, purple = (picture[..., 1] > picture[..., [0, 2]].max(-1) + 0.2), (picture[..., 2] > picture[..., 1] + 0.2)
    assert green.any()  # chlorine
    assert purple.any()  # sodium
    assert text(opened, ".legend") == "NaCl"


def test_slider_keys_and_curve_change_the_frame(opened: Browser) -> None:
    choose(opened, ATTACK)
    assert text(opened, "output") == "0 fs"
    assert text(opened, "figcaption b") == "-1"
    first = stage(opened)
    opened.evaluate(
        "(s => { s.value = 3; s.dispatchEvent(new Event('input')); })(document.querySelector('input[type=range]'))"
    )
    assert text(opened, "output") == "3 fs"
    assert text(opened, "figcaption b") == "-4"
    assert abs(stage(opened) - first).max() > 0.2
    opened.evaluate("document.querySelector('.stage').focus()")
    opened.press("ArrowLeft")
    assert (text(opened, "output"), text(opened, "figcaption b")) == ("2 fs", "-")  # where the energy is not a number
    opened.evaluate(
        "(s => { const b = s.getBoundingClientRect();"
        "s.dispatchEvent(new MouseEvent('click', { clientX: b.right - 2, clientY: b.top + 2 })); })"
        "(document.querySelector('.curves svg'))"
    )
    assert text(opened, "output") == "4 fs"
    for _ in range(5):
        opened.press("ArrowLeft")
    assert text(opened, "output") == "0 fs"
    assert abs(stage(opened) - first).max() < 0.02
    assert opened.complaints == []


def test_it_plays_until_it_is_stopped(opened: Browser) -> None:
    choose(opened, ATTACK)
    opened.evaluate("document.querySelector('.stage').focus()")
    opened.press(" ")
    opened.wait("document.querySelector('output').textContent !== '0 fs'")
    opened.press(" ")
    stopped = text(opened, "output")
    time.sleep(0.3)
    assert text(opened, "output") == stopped


def test_rows_are_chosen_and_sorted_by_mouse_and_keys(opened: Browser) -> None:
    choose(opened, "salt")
    assert opened.evaluate(f"{ROWS}.map(row => row.getAttribute('aria-selected'))") == ["true", "false", "false"]
    opened.evaluate("document.querySelectorAll('th button')[2].click()")  # by energy
    names = f"{ROWS}.map(row => row.cells[0].textContent)"
    assert opened.evaluate(names) == ["salt", "copper", ATTACK]
    opened.evaluate("document.querySelectorAll('th button')[2].click()")
    assert opened.evaluate(names)[1:] == ["copper", "salt"]
    opened.evaluate(f"{ROWS}[1].focus()")
    opened.press("Enter")
    assert text(opened, ".view > b") == "copper"
    opened.press("ArrowDown")
    assert text(opened, ".view > b") == "salt"
    assert (text(opened, "output"), text(opened, ".legend")) == ("after", "NaCl")


def test_cells_repeat_and_the_box_goes(opened: Browser) -> None:
    choose(opened, "copper")
    with_cell = stage(opened)
    opened.evaluate("document.querySelector('input[type=checkbox]').click()")
    without = stage(opened)
    assert abs(with_cell - without).max() > 0.2
    opened.evaluate(
        "(s => { s.value = '3'; s.dispatchEvent(new Event('change')); })(document.querySelectorAll('select')[1])"
    )
    assert abs(stage(opened) - without).max() > 0.2
    assert opened.complaints == []


def test_it_follows_the_colours_of_the_system(opened: Browser) -> None:
    choose(opened, "salt")
    for scheme, low, high in (("dark", 0.0, 0.2), ("light", 0.9, 1.0)):
        opened.prefer(scheme)
        picture = stage(opened)
        assert low <= picture[2, 2].min() <= picture[2, 2].max() <= high
        assert drawn(picture) > 0.02


def test_without_webgl_the_page_says_so(path: Path) -> None:
    with browser("--disable-3d-apis") as opened:
        opened.open(path, width=400, height=440)
        assert "it has no WebGL" in text(opened, ".note")
        choose(opened, "copper")
        assert opened.complaints == []
