"""The site builds without a dead link, has every page and every public name, and loads nothing from elsewhere."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built anew: in strict mode a dead link, a page outside the menu or a bad reference fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_names(module: str) -> Iterator[str]:
    """Classes, their methods, and functions of a module, by their dotted names."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{module}.{node.name}"
            methods = (
                [x.name for x in node.body if isinstance(x, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
            )
            yield from (f"{module}.{node.name}.{method}" for method in methods if not method.startswith("_"))


def test_every_page_is_in_the_menu(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}
    cards = {f"models/{path.stem}.html" for path in ROOT.glob("atomsml/models/*.md")}
    menu = re.findall(r'<a class="reference internal" href="([^"#]+)">', (site / "index.html").read_text())
    assert pages | cards | {"benchmarks.html", "changelog.html", "examples.html"} <= set(menu)


def test_the_reference_has_every_public_name(site, hooks):
    for page, (_, names) in hooks.REFERENCE.items():
        anchors = set(re.findall(r'id="(atomsml[\w.]*)"', (site / "reference" / f"{page}.html").read_text()))
        wanted = {name for entry in names.split() for module in hooks.modules(entry) for name in public_names(module)}
        assert wanted - anchors == set()


def test_the_reference_covers_the_core_and_both_rooms(hooks):
    entries = [path for path in (ROOT / "atomsml").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    described = [name for _, names in hooks.REFERENCE.values() for name in names.split()]
    assert sorted(described) == sorted({path.stem for path in entries} - {"__init__", "cli"})


def test_nothing_is_loaded_from_elsewhere(site):
    """Pages may link to other sites, but not take scripts, styles or pictures from them."""
    tags = re.compile(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>")
    found = {path.name: tags.findall(path.read_text()) for path in site.rglob("*.html")}
    assert {name: x for name, x in found.items() if x} == {}
