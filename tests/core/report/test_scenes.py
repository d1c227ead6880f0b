"""What a viewer writes into a page: bounded, honest about it, and JSON that strangers cannot break out of."""

from __future__ import annotations

import hashlib
import math

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from atomsml.report import Scene, asset, viewer
from atomsml.report.scenes import MOST_FRAMES, MOST_SCENES
from tests.browser import viewer_data


def labels(count: int) -> list[str]:
    return [str(index) for index in range(count)]


class Lazy:
    """Frames that are made when they are asked for; remembers which were."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, set[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> ase.Atoms:
        self.asked.add(frame)
        return ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + frame / 10_000]])


def test_the_library_is_the_published_file() -> None:
    digest = hashlib.sha256(asset("3Dmol-min.js").encode()).hexdigest()
    assert digest == "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
    assert "University of Pittsburgh" in asset("3Dmol-LICENSE.txt")


def test_a_scene_keeps_its_numbers() -> None:
    before, after = bulk("NaCl", "rocksalt", 5.6402), bulk("NaCl", "rocksalt", 5.7)
    curve = {"energy (eV)": [-1.23456789012, math.nan]}
    (scene,) = viewer_data(viewer([Scene("salt", [before, after], ["before", "after"], curve)]).html)["scenes"]
    assert scene["numbers"] == [11, 17]
    assert scene["pbc"] == [True] * 3
    assert (scene["labels"], scene["opening"]) == (["before", "after"], 1)
    assert scene["curves"] == {"energy (eV)": [-1.23456789, None]}
    for frame, atoms in zip(scene["frames"], (before, after), strict=True):
        assert np.allclose(np.reshape(frame["cell"], (3, 3)), 1000 * atoms.cell.array, atol=0.5)
        fractional = np.reshape(frame["places"], (2, 3)) / 1000 @ np.linalg.inv(atoms.cell.array)
        assert np.allclose(fractional, [[0, 0, 0], [0.5, 0.5, 0.5]], atol=5e-4)
    assert np.shape(scene["frames"][0]["changes"]) == (6, 5)
    assert scene["frames"][1]["changes"] == []  # they stay
    assert scene["faces"] == [[0, 1, 1, 1]]  # sodium on the corners


def test_bonds_come_and_go() -> None:
    near, far = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), ase.Atoms("H2", [[0, 0, 0], [0, 0, 2.7]])
    (scene,) = viewer_data(viewer([Scene("hydrogen", [near, near, far, near], labels(4))]).html)["scenes"]
    bond = [0, 1, 0, 0, 0]
    assert [frame["changes"] for frame in scene["frames"]] == [[bond], [], [bond], [bond]]


def test_a_molecule_lies_flat_in_the_first_view() -> None:
    benzene = molecule("C6H6")
    benzene.rotate(50, (1, 2, 3))
    (scene,) = viewer_data(viewer([Scene("benzene", [benzene], ["x"])]).html)["scenes"]
    assert np.ptp(Rotation.from_quat(scene["turn"]).apply(benzene.positions)[:, 2]) < 0.01
    for atoms in (molecule("H2O"), molecule("CO2"), ase.Atoms("Ar")):
        (scene,) = viewer_data(viewer([Scene("x", [atoms], ["x"])]).html)["scenes"]
        spans = np.ptp(Rotation.from_quat(scene["turn"]).apply(atoms.positions), axis=0)
        assert spans[0] >= spans[1] >= spans[2]


def test_names_of_strangers_do_not_end_the_script() -> None:
    name = "</script><script>alert(1)</script><!--"
    scene = Scene(name, [molecule("H2O")], [name], {name: [0.0]})
    html = viewer([scene], [name], [[name]]).html
    assert html.count("<script") == html.count("</script>") == 1
    assert "<!--" not in html
    (found,) = viewer_data(html)["scenes"]
    assert found["name"] == found["labels"][0] == next(iter(found["curves"])) == name


def test_a_long_trajectory_is_thinned_and_only_what_is_shown_is_read() -> None:
    frames = Lazy(10_001)
    html = viewer([Scene("long", frames, labels(10_001), {"i": list(range(10_001))})]).html
    (scene,) = viewer_data(html)["scenes"]
    assert len(scene["frames"]) == MOST_FRAMES
    assert {str(index) for index in frames.asked} == set(scene["labels"])
    assert (scene["labels"][0], scene["labels"][-1]) == ("0", "10000")
    assert [str(value) for value in scene["curves"]["i"]] == [f"{float(label)}" for label in scene["labels"]]
    assert set(np.diff([int(label) for label in scene["labels"]])) == {20}
    assert "501 of 10,001 frames are shown" in html


def test_many_structures_are_bounded() -> None:
    atoms = molecule("H2O")
    scenes = [Scene(str(index), [atoms], ["x"]) for index in range(MOST_SCENES + 1)]
    html = viewer(scenes, ["name"], [[scene.name] for scene in scenes]).html
    assert "The first 1,000 of 1,001 structures are shown" in html
    assert len(viewer_data(html)["scenes"]) == html.count("<tr><td>") == MOST_SCENES


def test_many_large_trajectories_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomsml.report.scenes.MOST_PLACES", 2000)
    scenes = [Scene(str(index), [molecule("CH3CH2OH")] * 100, labels(100)) for index in range(4)]  # of 9 atoms
    html = viewer(scenes, ["name"], [[scene.name] for scene in scenes]).html
    assert [len(scene["frames"]) for scene in viewer_data(html)["scenes"]] == [2000 // 36] * 4
    assert "55 of 100 frames are shown" in html
    html = viewer(scenes * 50, ["name"], [[scene.name] for scene in scenes * 50]).html
    assert [len(scene["frames"]) for scene in viewer_data(html)["scenes"]] == [2] * (2000 // 18)
    assert "The first 111 of 200 structures are shown" in html


def test_frames_without_a_place_are_left_out() -> None:
    good, bad = molecule("H2O"), molecule("H2O")
    bad.positions[1, 2] = math.nan
    html = viewer([Scene("water", [good, bad, good], labels(3), {"e": [1.0, 2.0, 3.0]})]).html
    assert "Frames with more than 20,000 atoms, or with atoms nowhere, are left out: 1." in html
    (scene,) = viewer_data(html)["scenes"]
    assert (scene["labels"], scene["curves"]) == (["0", "2"], {"e": [1.0, 3.0]})
    (scene,) = viewer_data(viewer([Scene("water", [bad], ["0"])]).html)["scenes"]
    assert scene["frames"] == []


@pytest.mark.parametrize(
    ("scene", "complaint"),
    [
        (Scene("w", [molecule("H2O")], []), "w: 1 frames have 0 labels; give one for each"),
        (Scene("w", [molecule("H2O")], ["x"], {"e": [1, 2]}), "w: 1 frames have 2 e; give one for each"),
        (Scene("w", [molecule("H2O"), molecule("NH3")], ["x", "y"]), "w: frame 1 has other atoms than the first"),
    ],
)
def test_scenes_that_do_not_fit_are_refused(scene: Scene, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        viewer([scene])


def test_rows_are_those_of_the_scenes() -> None:
    with pytest.raises(ValueError, match="1 scenes have 2 rows"):
        viewer([Scene("w", [molecule("H2O")], ["x"])], ["name"], [["a"], ["b"]])
    assert viewer([]).html == "<p>none</p>"


def test_a_backbone_has_a_letter_for_each_residue() -> None:
    chain = ase.Atoms("NCCO" * 3, np.arange(36.0).reshape(12, 3))
    scene = viewer_data(viewer([Scene("chain", [chain], [""], ribbon="hhc")]).html)["scenes"][0]
    assert scene["ribbon"] == "hhc"
    with pytest.raises(ValueError, match="chain: 12 atoms are no 2 residues of four"):
        viewer([Scene("chain", [chain], [""], ribbon="hh")])
