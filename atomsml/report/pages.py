"""Pages of HTML in one file that needs no network and no other file.

Names, keys and configs come from the data of strangers: every text passes through `html.escape`, and the page tells the
browser to load nothing and to run no script but those that it was made with, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Fragment:
    """A piece of a page: its HTML, and the scripts without which it does nothing."""

    html: str
    scripts: tuple[str, ...] = ()  # JavaScript; a page holds each once, in this order


def page(title: str, parts: Sequence[Fragment]) -> str:
    """A whole page as one text.

    >>> from atomsml.report import page, paragraph, section
    >>> text = page("Run 7", [section("Result", paragraph("It is done."))])
    >>> "<h2>Result</h2><p>It is done.</p>" in text
    True
    """
    scripts = list(dict.fromkeys(script for part in parts for script in part.scripts))
    allowed = "".join(f" 'sha256-{_digest(script)}'" for script in scripts)
    body = "\n".join(part.html for part in parts)
    return _PAGE.format(
        title=escape(title),
        policy=_POLICY + (f"; script-src{allowed}" if scripts else ""),
        style=asset("page.css"),
        body=body + "".join(f"\n<script>{script}</script>" for script in scripts),
    )


def asset(name: str) -> str:
    """The text of a file that comes with this folder."""
    return (ASSETS / name).read_text(encoding="utf-8")


def heading(title: str, remark: str = "") -> Fragment:
    """The title of a page, and a line below it."""
    return Fragment(f"<h1>{escape(title)}</h1>" + (f"<p>{escape(remark)}</p>" if remark else ""))


def section(title: str, *contents: Fragment) -> Fragment:
    """A part of the page with a heading of its own."""
    scripts = tuple(script for content in contents for script in content.scripts)
    inside = "".join(content.html for content in contents)
    return Fragment(f"<section><h2>{escape(title)}</h2>{inside}</section>", scripts)


def cards(values: Iterable[tuple[str, str, str]]) -> Fragment:
    """Numbers that stand out: (value, unit, name) each."""
    shown = "".join(
        f'<div class="card"><b>{escape(value)}</b> {escape(unit)}<br>{escape(name)}</div>'
        for value, unit, name in values
    )
    return Fragment(f'<div class="cards">{shown}</div>')


def paragraph(text: str) -> Fragment:
    return Fragment(f"<p>{escape(text)}</p>")


def bullets(texts: Iterable[str]) -> Fragment:
    """A list of sentences."""
    return Fragment("<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>")


def preformatted(text: str) -> Fragment:
    """A text whose lines stay as they are."""
    return Fragment(f"<pre>{escape(text)}</pre>")


def image(path: Path, description: str) -> Fragment:
    """A picture, .png or .svg, that becomes part of the page.

    Raises:
        OSError: the file cannot be read.
    """
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Fragment(f'<img alt="{escape(description)}" src="data:image/{kind};base64,{data}">')


def pairs(values: Mapping[str, Any]) -> Fragment:
    """A table of names and values."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return Fragment(f'<div class="wide"><table class="pairs">{"".join(rows)}</table></div>')


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Fragment:
    """Columns of numbers stand to the right, and others to the left."""
    if not rows:
        return paragraph("none")
    sides = ["" if all(map(_is_number, column)) else ' class="text"' for column in zip(*rows, strict=True)]
    head = "".join(f"<th{side}>{escape(name)}</th>" for name, side in zip(header, sides, strict=True))
    lines = (zip(row, sides, strict=True) for row in rows)
    body = "".join(
        "<tr>" + "".join(f"<td{side}>{escape(cell)}</td>" for cell, side in line) + "</tr>" for line in lines
    )
    return Fragment(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return cell in ("", "-")
    return True


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
