"""Common-neighbour analysis beside OVITO's, whose counts stand here, and of crystals that everybody knows."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.cluster import Icosahedron

from atomsml.simulate.analysis.local_structure import BCC, FCC, HCP, ICOSAHEDRAL, KINDS, OTHER, analyze, local_structure
from atomsml.simulate.analysis.motion import motion_of_frames


def kinds_of(atoms: Atoms) -> dict[str, int]:
    found = np.bincount(local_structure(atoms.positions, atoms.cell.array, atoms.pbc), minlength=len(KINDS))
    return {kind: int(count) for kind, count in zip(KINDS, found, strict=True) if count}


def shaken(symbol: str, repeat: int, amplitude: float) -> Atoms:
    shape = {"orthorhombic": True} if symbol == "Mg" else {"cubic": True}
    atoms = bulk(symbol, **shape) * (repeat, repeat, repeat)
    atoms.positions += np.random.default_rng(0).normal(0, amplitude, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (bulk("Cu"), "fcc"),
        (bulk("W"), "bcc"),
        (bulk("Mg"), "hcp"),
        (bulk("Si"), "cubic diamond"),
        (bulk("ZnS", "wurtzite", a=3.8, c=3.8 * np.sqrt(8 / 3), u=3 / 8), "hexagonal diamond"),
        (bulk("CsCl", "cesiumchloride", a=4.1), "bcc"),
    ],
    ids=["copper", "tungsten", "magnesium", "silicon", "wurtzite", "caesium chloride"],
)
def test_crystals(atoms, kind):
    """Also where the cell is smaller than the reach, turned, and its atoms lie anywhere."""
    atoms.rotate(33, (1, 2, 3), rotate_cell=True)
    atoms.positions += 7 * atoms.cell.array[0]
    assert kinds_of(atoms) == {kind: len(atoms)}


@pytest.mark.parametrize(
    ("symbol", "repeat", "amplitude", "theirs"),
    [
        ("Cu", 5, 0.22, {"other": 393, "fcc": 107}),
        ("Fe", 6, 0.22, {"other": 260, "bcc": 172}),
        ("Mg", 5, 0.25, {"other": 312, "hcp": 188}),
        ("Si", 4, 0.22, {"other": 96, "cubic diamond": 416}),
    ],
)
def test_shaken_crystals_are_counted_as_by_ovito(symbol, repeat, amplitude, theirs):
    """OVITO 3.17.2: CommonNeighborAnalysisModifier (adaptive), and IdentifyDiamondModifier of silicon."""
    assert kinds_of(shaken(symbol, repeat, amplitude)) == theirs


def test_an_icosahedron_has_one_in_the_middle():
    cluster = Icosahedron("Cu", 2)
    cluster.center(vacuum=8)
    cluster.pbc = True
    found = local_structure(cluster.positions, cluster.cell.array, cluster.pbc)
    middle = int(np.linalg.norm(cluster.positions - cluster.positions.mean(axis=0), axis=1).argmin())
    assert found[middle] == ICOSAHEDRAL
    assert set(np.delete(found, middle)) == {OTHER}


def test_surfaces_are_other_and_layers_below_are_fcc():
    slab = fcc111("Cu", (3, 3, 7), vacuum=10, periodic=True)
    found = local_structure(slab.positions, slab.cell.array, slab.pbc)
    assert set(found[slab.get_tags() == 1]) == set(found[slab.get_tags() == 7]) == {OTHER}
    assert set(found[slab.get_tags() == 4]) == {FCC}


def test_a_stacking_fault_is_hcp():
    """ABCABC becomes ABCBCA: two layers of it have the other stacking."""
    layers = fcc111("Cu", (2, 2, 9), periodic=True)
    step = layers.positions[layers.get_tags() == 8][0] - layers.positions[layers.get_tags() == 9][0]
    layers.positions[layers.get_tags() <= 4, :2] += step[:2]
    layers.cell[2, :2] += step[:2]
    found = local_structure(layers.positions, layers.cell.array, layers.pbc)
    assert sorted(np.bincount(found[:], minlength=len(KINDS))[[FCC, HCP]]) == [2 * 4, 7 * 4]
    assert BCC not in found


def test_shares_over_time():
    frames = [shaken("Cu", 3, amplitude) for amplitude in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    findings = analyze(motion_of_frames(frames, "copper", 10.0))
    fcc = findings.tables["structure"]["fcc"]
    assert fcc[0] == 1
    assert (np.diff(fcc) <= 0).all()
    assert fcc[-1] < 0.1
    assert findings.numbers["fcc"] == pytest.approx(fcc.mean())
    np.testing.assert_array_equal(findings.tables["structure"]["time [fs]"], 10.0 * np.arange(6))


def test_open_systems_are_refused():
    with pytest.raises(ValueError, match="not periodic along all axes"):
        local_structure(np.zeros((3, 3)), np.eye(3), np.array([True, True, False]))
