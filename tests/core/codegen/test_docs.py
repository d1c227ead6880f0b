"""The code of docs/kernels.md runs, and says what the page says."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "kernels.md"


def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    assert 'define void @"weighted_sum"' in printed
    assert "atomsml.neighbors.bins.place" in printed
    (message,) = re.findall(r"print\(error\)  # (.*)", code)
    start, end = message.split("128")  # where a vector ends depends on the processor
    assert re.fullmatch(rf"{re.escape(start)}\d+{re.escape(end)}", printed.splitlines()[-1])
