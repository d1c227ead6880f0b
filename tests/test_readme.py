"""The README stays short, its links lead somewhere, and its tables list what there is."""

import posixpath
import re
from pathlib import Path

import pytest

from atomsml.modelfile import embedded_models
from atomsml.potentials import POTENTIALS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md"), *ROOT.glob("atomsml/*/*.md"))
]


def test_it_is_short():
    assert len(README.splitlines()) < 150


def linked(page: str) -> set[str]:
    """Files of the repository to which a page links."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in links}


def test_it_leads_to_every_guide():
    """By itself, or by a guide to which it leads."""
    guides = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    near = linked("README.md") & guides
    assert guides <= near.union(*map(linked, near))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Those of the files as they stand in the repository; `tests/test_docs.py` has those of the site."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize(("section", "names"), [("Architectures", POTENTIALS), ("Embedded models", embedded_models())])
def test_tables_list_what_there_is(section, names):
    text = README.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) == set(names)
