"""A grid of drawings of generated molecules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomsml.cli.generate.records import Generated

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from atomsml.io import OutputSet

COLUMNS, ROWS = 6, 6  # what can be looked at; a longer run shows its first molecules
CELL = (240, 230)  # pixels
CAPTION = 34  # characters


def check_molecules_picture(path: Path) -> None:
    """Refuse an output file of a picture before the work rather than after it.

    Raises:
        ValueError: a suffix that is neither .png nor .svg.
        OSError: the path cannot be written.
    """
    from atomsml.cli.output import check_writable

    check_writable(path)
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"cannot draw {path}; use the suffix .png or .svg")


def draw_molecules(files: OutputSet, path: Path, molecules: Sequence[Generated]) -> None:
    """Draw the first molecules as .png or .svg: structure formulas with SMILES, and what is wrong where it is.

    Hydrogens are left out where bonds are known. Where they are not, atoms are joined that are near each other, and the
    caption says so.

    Raises:
        OSError: the path cannot be written.
    """
    shown = molecules[: COLUMNS * ROWS]
    draw_grid(files, path, [_drawing(molecule) for molecule in shown], [_caption(molecule) for molecule in shown])


def draw_graphs(files: OutputSet, path: Path, mols: Sequence[Mol]) -> None:
    """Draw the first graphs as .png or .svg: structure formulas with SMILES.

    Raises:
        OSError: the path cannot be written.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    shown = [Chem.Mol(mol) for mol in mols[: COLUMNS * ROWS]]
    captions = [_cut(f"({index}) {Chem.MolToSmiles(mol)}") for index, mol in enumerate(shown)]
    for mol in shown:
        rdDepictor.Compute2DCoords(mol)
    draw_grid(files, path, [rdMolDraw2D.PrepareMolForDrawing(mol) for mol in shown], captions)


def draw_grid(files: OutputSet, path: Path, mols: Sequence[Mol], captions: Sequence[str]) -> None:
    """Draw molecules that have places in two dimensions, with what stands below them."""
    from rdkit.Chem.Draw import rdMolDraw2D

    columns = min(COLUMNS, len(mols))
    width, height = CELL[0] * columns, CELL[1] * -(-len(mols) // columns)
    kind = rdMolDraw2D.MolDraw2DSVG if path.suffix == ".svg" else rdMolDraw2D.MolDraw2DCairo
    canvas = kind(width, height, *CELL)
    options: Any = canvas.drawOptions()  # whose stubs mistype its fields
    options.legendFontSize = 14
    options.drawMolsSameScale = False
    options.fixedBondLength = 30
    options.legendFraction = 0.18
    options.padding = 0.08
    options.prepareMolsBeforeDrawing = False  # they are prepared here, not all the same way
    canvas.DrawMolecules(list(mols), legends=list(captions))
    canvas.FinishDrawing()
    picture = canvas.GetDrawingText()
    content = picture.encode() if isinstance(picture, str) else picture
    files.write(path, lambda beside: beside.write_bytes(content))


def _drawing(molecule: Generated) -> Mol:
    """In two dimensions, ready to be drawn."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D
    from rdkit.rdBase import BlockLogs

    from atomsml.generative.molecules.metrics.perception import perceived_mol
    from atomsml.io import REACH, mol_joined

    with BlockLogs():
        if not molecule.bonding.reason:
            flat = Chem.RemoveHs(perceived_mol(molecule.atoms, molecule.bonding))
            rdDepictor.Compute2DCoords(flat)
            return rdMolDraw2D.PrepareMolForDrawing(flat, kekulize=True, addChiralHs=False)
        flat = mol_joined(molecule.atoms, REACH).GetMol()
        flat.UpdatePropertyCache(strict=False)
        rdDepictor.Compute2DCoords(flat)
        return flat


def _caption(molecule: Generated) -> str:
    """Two lines; the parentheses also keep RDKit from setting them into one another."""
    if molecule.bonding.reason:
        second = "joined by distance only"
    elif not molecule.valid:
        second = f"no: {molecule.reason}"
    elif molecule.strain is None:
        second = "valid"
    else:
        second = f"strain {molecule.strain:.1f} kcal/mol"
    name = f"({molecule.index}) " + (molecule.bonding.smiles or molecule.atoms.get_chemical_formula("hill"))
    return "\n".join(_cut(text) for text in (name, second))


def _cut(text: str) -> str:
    return text if len(text) <= CAPTION else text[: CAPTION - 3] + "..."
