"""A page is one file: foreign text is text, and the browser may run the scripts that belong to it and no other."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from atomsml.report import Fragment, bullets, heading, image, page, pairs, paragraph, preformatted, section, table

ATTACK = '<script>alert("x")</script>'


def policy(text: str) -> str:
    return re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]


def test_without_scripts_the_browser_may_run_none() -> None:
    assert policy(page("Run", [paragraph("done")])) == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_script_is_there_once_and_allowed_by_its_hash() -> None:
    needy = Fragment("<p>x</p>", ("let one = 1;", "let two = 'é';"))
    text = page("Run", [needy, section("again", needy, Fragment("<p>y</p>", ("let two = 'é';",)))])
    assert re.findall(r"<script>(.*?)</script>", text) == ["let one = 1;", "let two = 'é';"]
    digests = [
        base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in ("let one = 1;", "let two = 'é';")
    ]
    assert policy(text).endswith(f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'")


def test_foreign_text_is_text() -> None:
    parts = [
        heading(ATTACK, ATTACK),
        section(ATTACK, paragraph(ATTACK), bullets([ATTACK]), preformatted(ATTACK)),
        pairs({ATTACK: ATTACK}),
        table([ATTACK], [[ATTACK]]),
    ]
    text = page(ATTACK, parts)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;") == 11


def test_columns_of_numbers_stand_to_the_right() -> None:
    text = table(["name", "count", "formula", "left"], [["a", "1,234.5", "CO", ""], ["b", "-", "2", "nan"]]).html
    assert '<th class="text">name</th><th>count</th><th class="text">formula</th><th>left</th>' in text
    assert '<td class="text">b</td><td>-</td><td class="text">2</td><td>nan</td>' in text


def test_pictures_become_part_of_the_page(tmp_path: Path) -> None:
    for name, kind in (("a.png", "png"), ("a.svg", "svg+xml")):
        (tmp_path / name).write_bytes(b"\x89 picture")
        expected = f'src="data:image/{kind};base64,{base64.b64encode(bytes([0x89]) + b" picture").decode()}"'
        assert expected in image(tmp_path / name, "it").html
