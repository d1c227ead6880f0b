"""What `atomsml generate` is asked for, read and checked before anything is drawn: formulas, scaffolds, conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import ase
    import numpy as np
    from rdkit.Chem import Mol

    from atomsml.generative.graphs.graphs import MolecularGraphs
    from atomsml.generative.molecules.model import MoleculeModel
    from atomsml.generative.molecules.molecules import Request, Scaffold

FAR = 4.0  # mean absolute deviations of a condition from its mean; of a normal distribution 0.14 % lie beyond
SCAFFOLD_OVERLAP = 0.5  # A: no two heavy atoms of a molecule are closer


@dataclass(frozen=True)
class Wishes:
    """What all molecules of a run have in common."""

    num_atoms: int | None
    formula: dict[int, int] | None  # atomic number -> how many
    scaffold: Scaffold | None
    conditions: dict[str, float]
    smiles: tuple[str, ...] = ()  # molecules whose bonds are given, in turn
    grows: bool = False  # the scaffold is a fragment, with all its hydrogens

    def requests(self, model: MoleculeModel, seed: int, indices: Sequence[int]) -> list[Request]:
        """Molecules number `indices` of the run with this seed.

        Raises:
            ValueError: what the model cannot do.
        """
        from atomsml.generative.core.sampling import sample_seed
        from atomsml.generative.molecules.conformers import smiles_requests
        from atomsml.generative.molecules.model import draw_requests

        seeds = [sample_seed(seed, index) for index in indices]
        if self.smiles:
            return smiles_requests(model, [self.smiles[index % len(self.smiles)] for index in indices], seeds)
        if self.scaffold is not None and self.grows != model.grows_fragments:
            raise ValueError(
                "this model holds heavy atoms alone and draws their hydrogens: give --scaffold, or for --fragment a "
                "model that grows molecules atom by atom, such as symphony"
                if self.grows
                else "this model grows from all atoms that are given, hydrogens too: give --fragment, not --scaffold"
            )
        rest = (self.scaffold, self.conditions)
        draw_requests(model, [], self.num_atoms, self.formula, *rest)  # refuses what it does not know
        if self.formula or model.composes or self.scaffold is None or self.scaffold.hydrogens is None:
            return draw_requests(model, seeds, self.num_atoms, self.formula, *rest)
        drawn = self._formulas_with_room(model, seeds)
        return [draw_requests(model, [s], None, f, *rest)[0] for s, f in zip(seeds, drawn, strict=True)]

    def _formulas_with_room(self, model: MoleculeModel, seeds: Sequence[int]) -> list[dict[int, int]]:
        """Compositions of the training set whose hydrogens find a place beside the scaffold."""
        from collections import Counter

        import numpy as np

        from atomsml.generative.molecules.compositions import draw_formula
        from atomsml.generative.molecules.valences import spare_places

        assert self.scaffold is not None
        assert self.scaffold.hydrogens is not None
        elements, held = model.config.elements, Counter(self.scaffold.numbers)
        room = spare_places(model.formulas.cpu().numpy(), elements, held, sum(self.scaffold.hydrogens)) >= 0
        if not room.any():
            raise ValueError("no composition that the model knows leaves this scaffold its hydrogens; give a --formula")
        formulas, counts = model.formulas[room], model.formula_counts[room]
        return [draw_formula(formulas, counts, elements, np.random.default_rng(s), self.num_atoms, held) for s in seeds]

    def notes(self, model: MoleculeModel) -> list[str]:
        """Where a formula or a condition lies outside of what the model has learnt from."""
        from atomsml.generative.molecules.compositions import format_formula

        found, sizes = list[str](), model.formulas.sum(dim=1).tolist()
        if self.formula and sizes and not min(sizes) <= sum(self.formula.values()) <= max(sizes):
            found.append(
                f"{format_formula(self.formula)} has {sum(self.formula.values())} atoms, the model was trained "
                f"on {min(sizes)} to {max(sizes)}"
            )
        return [*found, *(note for name in self.conditions if (note := self._far(model, name)) is not None)]

    def _far(self, model: MoleculeModel, name: str) -> str | None:
        """A note if hardly any or no training molecule has what is asked of this condition."""
        value, place = self.conditions[name], model.config.conditions.index(name)
        low, high = model.condition_ranges.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            return f"{name}={value:g} extrapolates: the training molecules span {low:.3g} to {high:.3g}"
        mean, deviation = model.condition_mean[place].item(), model.condition_scale[place].item()
        least, most = mean - FAR * deviation, mean + FAR * deviation
        if not least <= value <= most:
            return (
                f"{name}={value:g} is far from what the model was trained on: mean {mean:.3g}, mean absolute deviation "
                f"{deviation:.2g}, hence hardly anything outside of {least:.3g} to {most:.3g}"
            )
        return None


def read_wishes(
    num_atoms: int | None,
    formula: str | None,
    scaffold: Path | None,
    conditions: Sequence[str],
    smiles: str | None,
    fragment: Path | None,
) -> Wishes:
    """The wishes of a command line.

    Raises:
        ValueError: one that cannot be read, that no molecule fulfils, or two that contradict each other.
        OSError: a scaffold that is missing.
    """
    from atomsml.generative.molecules.compositions import atoms_of, parse_formula
    from atomsml.generative.molecules.valences import check_formula

    if smiles is not None:
        others = {
            "--atoms": num_atoms,
            "--formula": formula,
            "--scaffold": scaffold,
            "--fragment": fragment,
            "--condition": conditions or None,
        }
        given = [option for option, value in others.items() if value is not None]
        if given:
            raise ValueError(f"--smiles says what the molecule is, so that {given[0]} has nothing to add; give one")
        return Wishes(None, None, None, {}, read_smiles(smiles))
    parsed = None if formula is None else parse_formula(formula)
    if parsed is not None:
        if num_atoms is not None and sum(parsed.values()) != num_atoms:
            raise ValueError(f"--formula {formula} has {sum(parsed.values())} atoms, --atoms is {num_atoms}; give one")
        check_formula(parsed)
    if scaffold is not None and fragment is not None:
        raise ValueError("--scaffold holds heavy atoms, --fragment all atoms of a file; give one of the two")
    held = None if scaffold is None else read_scaffold(scaffold)
    held = held if fragment is None else read_fragment(fragment)
    if held is not None:
        if num_atoms is not None and len(held.numbers) > num_atoms:
            name = f"--fragment {fragment}" if scaffold is None else f"--scaffold {scaffold}"
            what = "atoms" if scaffold is None else "heavy atoms"
            raise ValueError(f"{name} has {len(held.numbers)} {what}, --atoms is {num_atoms}; ask for more atoms")
        if parsed is not None:
            atoms_of(parsed, held.numbers)
    return Wishes(num_atoms, parsed, held, read_conditions(conditions), grows=fragment is not None)


def read_smiles(text: str) -> tuple[str, ...]:
    """One SMILES string, or those of a file, one on each line or in the column `smiles` of a CSV table.

    Raises:
        ValueError: a molecule that cannot be read; or a file without any.
    """
    from atomsml.io import parse_smiles
    from atomsml.io.formats.smiles import smiles_lines
    from atomsml.io.formats.source import Source

    path = Path(text)
    if not (path.suffix and path.is_file()):
        parse_smiles(text)
        return (text,)
    found = []
    for line, smiles, _ in smiles_lines(Source(path)):
        try:
            parse_smiles(smiles)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        found.append(smiles)
    if not found:
        raise ValueError(f"{path}: has no SMILES; write one on each line")
    return tuple(found)


def read_conditions(words: Sequence[str]) -> dict[str, float]:
    """Values by name of words such as gap=5.2.

    Raises:
        ValueError: no name, no finite number, or a name that comes twice.
    """
    conditions: dict[str, float] = {}
    for word in words:
        name, _, text = (part.strip() for part in word.partition("="))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise ValueError(f"--condition {word!r} is not NAME=NUMBER; write it as in --condition gap=5.2")
        if name in conditions:
            raise ValueError(f"--condition {name} is given twice; give one value")
        conditions[name] = value
    return conditions


def read_scaffold(path: Path) -> Scaffold:
    """The heavy atoms of the one molecule in a file, where they are; says on stderr that hydrogens are left out.

    A heavy atom may carry as many hydrogens as in the file, drawn or implied by the bonds of an SDF record, or fewer,
    where something else is attached. An .xyz file without any hydrogens does not say, and allows any number.

    Raises:
        ValueError: a file that cannot be read, has several molecules or periodic ones, or no heavy atoms.
        OSError: no such file.
    """
    import numpy as np
    import torch

    from atomsml.generative.molecules.molecules import Scaffold

    atoms, carried, graph = _read_molecule(path, "scaffold")
    is_heavy = atoms.numbers != 1
    heavy = atoms[is_heavy]
    if len(heavy) == 0:
        raise ValueError(f"{path}: the scaffold has no heavy atoms, and hydrogens are not held; give it some")
    distances = heavy.get_all_distances() + np.diag(np.full(len(heavy), np.inf))
    if distances.min() < SCAFFOLD_OVERLAP:
        raise ValueError(f"{path}: heavy atoms are {distances.min():.2f} A apart; correct the scaffold")
    if len(heavy) < len(atoms):
        typer.echo(
            f"scaffold: {len(heavy)} heavy atoms of {path} are held; its {len(atoms) - len(heavy)} hydrogens are left "
            "out and drawn anew",
            err=True,
        )
    hydrogens = None if carried is None else tuple(carried[is_heavy].tolist())
    return Scaffold(tuple(heavy.numbers.tolist()), torch.from_numpy(heavy.positions.copy()), hydrogens, graph)


def read_fragment(path: Path) -> Scaffold:
    """All atoms of the one molecule in a file, where they are, in their order.

    Raises:
        ValueError: a file that cannot be read, has several molecules or periodic ones, or atoms that overlap.
        OSError: no such file.
    """
    import numpy as np
    import torch

    from atomsml.generative.molecules.molecules import Scaffold

    atoms, _, _ = _read_molecule(path, "fragment")
    distances = atoms.get_all_distances() + np.diag(np.full(len(atoms), np.inf))
    if distances.min() < SCAFFOLD_OVERLAP:
        raise ValueError(f"{path}: atoms are {distances.min():.2f} A apart; correct the fragment")
    return Scaffold(tuple(atoms.numbers.tolist()), torch.from_numpy(atoms.positions.copy()))


def _read_molecule(path: Path, what: str) -> tuple[ase.Atoms, np.ndarray | None, MolecularGraphs | None]:
    """The one molecule of a file; how many hydrogens each atom carries and its bonds, if known; `what` it is to be."""
    from atomsml.io import read
    from atomsml.io.formats.source import format_suffix
    from atomsml.io.formats.table import FORMATS

    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path of --{what}")
    if format_suffix(path) in FORMATS["sdf"].suffixes:
        return _read_sdf(path, what)
    images = read(path)
    _check_one(path, len(images), what)
    if images[0].pbc.any():
        raise ValueError(f"{path}: the {what} is periodic; give one open molecule")
    carried = _carried(images[0])
    return images[0], carried, None if carried is None else _perceived_graph(images[0])


def _carried(atoms: ase.Atoms) -> np.ndarray | None:
    """How many hydrogens are near each atom; None if there are none at all."""
    import numpy as np

    from atomsml.io import REACH, bond_graph

    if not (atoms.numbers == 1).any():
        return None
    carried = np.zeros(len(atoms), int)
    for i, j in bond_graph(atoms, REACH):
        carried[i] += atoms.numbers[j] == 1
        carried[j] += atoms.numbers[i] == 1
    return carried


def _perceived_graph(atoms: ase.Atoms) -> MolecularGraphs | None:
    """The bonds that positions say; None where those of no neutral molecule fit."""
    from atomsml.io import mol_bonded, with_bond_orders

    try:
        return _graph(with_bond_orders(mol_bonded(atoms), 0))
    except (ValueError, TimeoutError):
        return None


def _graph(mol: Mol) -> MolecularGraphs | None:
    """Of a molecule of RDKit; None where it has bonds of an unknown kind, unpaired electrons, or no heavy atom."""
    from atomsml.generative.graphs.graphs import MolecularGraphs

    try:
        return MolecularGraphs.from_mols([mol])
    except ValueError:
        return None


def _read_sdf(path: Path, what: str) -> tuple[ase.Atoms, np.ndarray, MolecularGraphs | None]:
    """And how many hydrogens each atom carries, drawn or not, as a scaffold may lack some; and its bonds."""
    import numpy as np

    from atomsml.io import atoms_from_mol
    from atomsml.io.formats.rdkit_molecules import sdf_mols
    from atomsml.io.formats.source import Source

    mols = list(sdf_mols(Source(path)))
    _check_one(path, len(mols), what)
    mol = mols[0]
    if mol is None or mol.GetNumAtoms() == 0:
        raise ValueError(f"{path}: its record cannot be read; check that it is complete")
    if not mol.GetConformer().Is3D():
        raise ValueError(f"{path}: is a drawing, not a geometry in three dimensions; embed it, or give an .xyz file")
    mol.UpdatePropertyCache(strict=False)
    carried = np.array([atom.GetTotalNumHs(includeNeighbors=True) for atom in mol.GetAtoms()])
    return atoms_from_mol(mol), carried, _graph(mol)


def _check_one(path: Path, molecules: int, what: str) -> None:
    if molecules != 1:
        raise ValueError(f"{path}: has {molecules} molecules; a {what} is one")
