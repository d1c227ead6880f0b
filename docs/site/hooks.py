"""What MkDocs adds to the pages in docs/: README, model cards and benchmarks, examples, and the reference.

Pages stay where they are read without the site, and link to each other as files of the repository; here the links are
turned to where the pages stand in the site. A link to a file that is no page loses its target and keeps its text.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[2]
CARDS = {f"models/{path.stem}.md": f"atomsml/models/{path.name}" for path in (ROOT / "atomsml/models").glob("*.md")}
BORROWED = {"index.md": "README.md", "benchmarks.md": "benchmarks/README.md", "changelog.md": "CHANGELOG.md"} | CARDS
# page -> its title, and what of atomsml it describes
REFERENCE = {
    "graphs": ("Graphs and neighbours", "graph neighbors geometry units device"),
    "potentials": ("Potentials", "potential multipoles electronic_state pair_geometry region potentials architectures"),
    "files": ("Structures and model files", "io modelfile fetch cache"),
    "simulate": ("Calculators and simulation", "interfaces dispersion simulate report"),
    "properties": ("Properties", "properties"),
    "data": ("Data sets", "dataset"),
    "training": ("Training", "training config errors yaml_file signals"),
    "uncertainty": ("Uncertainty", "uncertainty"),
    "testing": ("Tests for your own models", "testing"),
    "generators": ("Generators", "generative"),
    "building-blocks": ("Building blocks of architectures", "o3 radial nn"),
    "kernels": ("Kernels", "ops programs codegen"),
}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and the colours of code."""
    texts = {site: (ROOT / source).read_text(encoding="utf-8") for site, source in BORROWED.items()}
    texts["examples.md"] = examples_page()
    texts |= {f"reference/{name}.md": reference_page(title, names) for name, (title, names) in REFERENCE.items()}
    for site, text in texts.items():
        files.append(File.generated(config, site, content=text))
    colours = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    files.append(File.generated(config, "site/pygments.css", content=colours))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages."""
    here = page.file.src_uri
    folder = posixpath.dirname(BORROWED.get(here, f"docs/{here}"))
    pages = {source: site for site, source in BORROWED.items()} | {"examples": "examples.md"}
    pages |= {f"docs/{file.src_uri}": file.src_uri for file in files if file.src_uri not in BORROWED}

    def turned(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        site = pages.get(posixpath.normpath(posixpath.join(folder, path)))
        if site is None:
            return text
        return f"[{text}]({posixpath.relpath(site, posixpath.dirname(here) or '.')}{hash_}{anchor})"

    return LINK.sub(turned, markdown)


def examples_page() -> str:
    """Every example with its code."""
    parts = ["# Examples\n"]
    for path in sorted((ROOT / "examples").glob("[0-9][0-9]_*.py")):
        code = path.read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(code)) or "").partition("\n")[0]
        parts.append(f"## {path.name}\n\n{about}\n\n```python\n{code}```\n")
    return "\n".join(parts)


def reference_page(title: str, names: str) -> str:
    """Everything public of some modules and folders; mkdocstrings fills it in."""
    entries = [f"::: {module}" for name in names.split() for module in modules(name)]
    return f"# {title}\n\n" + "\n\n".join(entries) + "\n"


def modules(name: str) -> Iterator[str]:
    """Dotted names of a module of atomsml, or of all modules in a folder of it, its own first."""
    if (ROOT / "atomsml" / f"{name}.py").exists():
        yield f"atomsml.{name}"
        return
    for folder, subfolders, found in os.walk(ROOT / "atomsml" / name):
        subfolders[:] = sorted(each for each in subfolders if each != "__pycache__")
        if "__init__.py" not in found:  # no modules but files that come with them
            continue
        dotted = ".".join(Path(folder).relative_to(ROOT).parts)
        yield dotted
        yield from (f"{dotted}.{file[:-3]}" for file in sorted(found) if file.endswith(".py") and file != "__init__.py")
