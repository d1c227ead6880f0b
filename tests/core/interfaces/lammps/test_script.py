"""Input files of LAMMPS in which a model stands for a pair style."""

from pathlib import Path

import pytest

from atomsml.interfaces.lammps.script import SKIN, Part, agreed, read_script

BEGIN = "units metal\nread_data water.data\n"


def parts(tmp_path: Path, text: str) -> list[Part]:
    path = tmp_path / "in.lammps"
    path.write_text(text)
    return read_script(path)


def test_a_file_is_cut_where_the_model_comes_in(tmp_path):
    text = f"{BEGIN}neighbor 0.5 bin\npair_style atomsml # ours\npair_coeff * * H O\nrun 10\n"
    before, after = parts(tmp_path, text)
    assert before == Part(f"{BEGIN}neighbor 0.5 bin\n# pair_style atomsml # ours\n", ("H", "O"), 0.5)
    assert (after.elements, after.text.splitlines()) == (None, [""] * 5 + ["run 10"])
    assert parts(tmp_path, text.replace("neighbor 0.5 bin\n", ""))[0].skin == SKIN


def test_a_file_may_begin_anew(tmp_path):
    one = f"{BEGIN}pair_style atomsml\npair_coeff * * H O\nrun 1\n"
    found = parts(tmp_path, f"{one}clear\nneighbor 3.0 bin\n{one}")
    assert [part.elements for part in found] == [("H", "O"), ("H", "O"), None]
    assert found[1].skin == 3.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run 1\n", "no line `pair_style atomsml`"),
        ("pair_style atomsml\nrun 1\n", "is not followed by `pair_coeff"),
        ("pair_style atomsml small.model\n", "line 3: `pair_style atomsml` takes nothing more"),
        ("pair_style atomsml\npair_coeff 1 2 H O\n", "line 4: pair_coeff of `pair_style atomsml` is"),
        ("neighbor ${s} bin\n", "line 3: the skin of `neighbor` must be a number"),
        ("pair_style atomsml\npair_coeff * * H O\ncomm_modify cutoff 5\n", "line 5: `comm_modify` would take away"),
        ("pair_style atomsml\npair_coeff * * H O\npair_style zero 5\n", "line 5: `pair_style` would take away"),
    ],
    ids=["none", "no-coeff", "file", "types", "skin", "comm", "other-style"],
)
def test_what_the_model_cannot_do_with_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words.replace("*", r"\*").replace("$", r"\$")):
        parts(tmp_path, BEGIN + text)


def test_elements_are_named_once():
    assert agreed(("H", "O"), ()) == agreed((), ("H", "O")) == agreed(("H", "O"), ("H", "O")) == ("H", "O")
    with pytest.raises(ValueError, match="no elements are named"):
        agreed((), ())
    with pytest.raises(ValueError, match="pair_coeff names H O, and --elements O H"):
        agreed(("H", "O"), ("O", "H"))
