"""Bond orders from positions alone: how often they are those of the SMILES, beside RDKit's own.

    python -m benchmarks.generation.bond_orders SMILES_FOLDER [-n 300] [--docs]

SMILES_FOLDER has `zinc250k_valid.csv.gz` and `qm9_smiles.csv.gz`, a SMILES on each line after the first. Molecules are
drawn with a fixed seed and embedded (ETKDG and MMFF94); then all bonds are forgotten. Right is a molecule whose SMILES
comes back, without stereochemistry, or as another of the resonance forms that RDKit enumerates. Nitroarenes, azides and
sulfoxides are molecules of ZINC of which an aromatic hydrogen, or the lone pair of a thioether, was replaced. Broken
molecules are neutral ones of both lists that lost a hydrogen, got one more in a random place, or whose single bond to a
heavy atom was stretched by 1.5 A: none of them may be valid and in one piece (suite `strict`). RDKit's
DetermineBondOrders gets the same pairs of bonded atoms and the same charge. `--docs` puts the table in
docs/generators/molecule-metrics.md.
"""

from __future__ import annotations

import argparse
import gzip
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ase
import numpy as np
from rdkit import Chem
from rdkit.Chem import rdChemReactions, rdDetermineBonds
from rdkit.rdBase import BlockLogs

from atomsml.generative.molecules.metrics.perception import perceive
from atomsml.generative.molecules.metrics.strict import invalid, strict
from atomsml.io import REACH, atoms_from_smiles, mol_bonded, mol_joined, with_bond_orders
from benchmarks.shared.reporting import DOCS, replace_section, table

SEED = 0
ITERATIONS = 100_000  # RDKit's search, which otherwise may take hours
NITRO = "[cH:1]>>[c:1][N+](=O)[O-]"
AZIDE = "[cH:1]>>[c:1]N=[N+]=[N-]"
SULFOXIDE = "[#6:1][SX2:2][#6:3]>>[#6:1][S:2](=O)[#6:3]"

Molecule = tuple[str, ase.Atoms]


def smiles_of(path: Path) -> list[str]:
    """In a random order, the same each time."""
    lines = gzip.decompress(path.read_bytes()).decode().split()[1:]
    random.Random(SEED).shuffle(lines)
    return lines


def embedded(smiles: Iterator[str], number: int) -> list[Molecule]:
    """The first molecules that can be embedded."""
    found: list[Molecule] = []
    for text in smiles:
        try:
            found.append((text, atoms_from_smiles(text)))
        except ValueError:  # several fragments, or no conformer
            continue
        if len(found) == number:
            break
    return found


def chosen(lines: list[str], wanted: Callable[[Chem.Mol], bool]) -> Iterator[str]:
    for text in lines:
        mol = Chem.MolFromSmiles(text)
        if mol is not None and wanted(mol):
            yield text


def changed(lines: list[str], reaction: str) -> Iterator[str]:
    """Each neutral molecule with the first change that a reaction makes of it, if it makes any."""
    change = rdChemReactions.ReactionFromSmarts(reaction)
    for text in chosen(lines, lambda mol: not charged(mol)):
        for (product,) in change.RunReactants((Chem.MolFromSmiles(text),), 1):
            if Chem.SanitizeMol(product, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                yield Chem.MolToSmiles(product)


def charged(mol: Chem.Mol) -> bool:
    return Chem.GetFormalCharge(mol) != 0


def zwitterion(mol: Chem.Mol) -> bool:
    """Neutral with a charge that no neighbour balances."""
    far = Chem.MolFromSmarts("[+;!$([+]~[-])]")
    return Chem.GetFormalCharge(mol) == 0 and mol.HasSubstructMatch(far)


def plain(mol: Chem.Mol) -> str:
    return str(Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False))


def ours(atoms: ase.Atoms, charge: int) -> str:
    return plain(with_bond_orders(mol_bonded(atoms), charge))


def theirs(atoms: ase.Atoms, charge: int) -> str:
    mol = mol_bonded(atoms)
    rdDetermineBonds.DetermineBondOrders(mol, charge, embedChiral=False, maxIterations=ITERATIONS)
    Chem.SanitizeMol(mol)
    return plain(mol)


def resonance_forms(smiles: str) -> set[str]:
    flags = Chem.ResonanceFlags.UNCONSTRAINED_ANIONS | Chem.ResonanceFlags.UNCONSTRAINED_CATIONS
    forms = Chem.ResonanceMolSupplier(Chem.MolFromSmiles(smiles), flags, 100)
    return {plain(Chem.MolFromSmiles(Chem.MolToSmiles(form))) for form in forms if form is not None}


def measured(molecules: list[Molecule], method: Callable[[ase.Atoms, int], str]) -> tuple[int, int, float]:
    """How many come back as they were, how many as another resonance form, and ms of processor time for each."""
    same = resonant = 0
    spent = 0.0
    for smiles, atoms in molecules:
        started = time.process_time()
        try:
            found = method(atoms, atoms.info["charge"])
        except (ValueError, RuntimeError) as error:
            found = f"nothing ({str(error).strip().splitlines()[0]})"
        spent += time.process_time() - started
        if found == plain(Chem.MolFromSmiles(smiles)):
            same += 1
        elif found in resonance_forms(smiles):
            resonant += 1
        elif method is ours:
            print(f"  {smiles} became {found}", flush=True)
    return same, resonant, 1000 * spent / len(molecules)


def broken(molecules: list[Molecule]) -> dict[str, list[ase.Atoms]]:
    """Three ways to break molecules."""
    rng = np.random.default_rng(SEED)
    ways: dict[str, list[ase.Atoms]] = {"hydrogen removed": [], "hydrogen added": [], "bond stretched": []}
    for _, atoms in molecules:
        hydrogens, heavy = np.flatnonzero(atoms.numbers == 1), np.flatnonzero(atoms.numbers != 1)
        less, more = atoms.copy(), atoms.copy()
        if len(hydrogens):
            del less[int(rng.choice(hydrogens))]
            ways["hydrogen removed"].append(less)
        step = rng.normal(size=3)
        more += ase.Atom("H", atoms.positions[rng.choice(heavy)] + step / np.linalg.norm(step))
        ways["hydrogen added"].append(more)
        stretched = pulled_apart(atoms, rng)
        if stretched is not None:
            ways["bond stretched"].append(stretched)
    return ways


def pulled_apart(atoms: ase.Atoms, rng: np.random.Generator, by: float = 1.5) -> ase.Atoms | None:
    """With one side of a bond between heavy atoms, which is in no ring, moved along it; None without such a bond."""
    mol = mol_joined(atoms, REACH)
    Chem.FastFindRings(mol)
    bonds = [
        bond.GetIdx()
        for bond in mol.GetBonds()
        if not bond.IsInRing() and 1 not in (bond.GetBeginAtom().GetAtomicNum(), bond.GetEndAtom().GetAtomicNum())
    ]
    if not bonds:
        return None
    bond = mol.GetBondWithIdx(int(rng.choice(bonds)))
    start, end = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    mol.RemoveBond(start, end)
    side = next(list(piece) for piece in Chem.GetMolFrags(mol) if end in piece)
    moved = atoms.copy()
    direction = atoms.positions[end] - atoms.positions[start]
    moved.positions[side] += by * direction / np.linalg.norm(direction)
    return moved


def called_fine(images: list[ase.Atoms]) -> int:
    """How many are valid and in one piece, by the suite `strict`."""
    return strict(images, list(perceive(images))).failures.count("")


def valid(molecules: list[Molecule]) -> int:
    images = [atoms for _, atoms in molecules]
    return sum(not invalid(atoms.numbers, found) for atoms, found in zip(images, perceive(images), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", "--number", type=int, default=300, help="molecules of each list")
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    zinc = smiles_of(arguments.folder / "zinc250k_valid.csv.gz")
    qm9 = smiles_of(arguments.folder / "qm9_smiles.csv.gz")
    number, fewer = arguments.number, max(1, arguments.number // 2)
    sets = {
        "ZINC, neutral": (chosen(zinc, lambda mol: not charged(mol)), number),
        "QM9, neutral": (chosen(qm9, lambda mol: not charged(mol)), number),
        "ZINC, ions": (chosen(zinc, charged), fewer),
        "ZINC and QM9, zwitterions": (chosen(zinc[: 8 * number] + qm9, zwitterion), fewer),
        "nitroarenes": (changed(zinc, NITRO), fewer),
        "aryl azides": (changed(zinc, AZIDE), fewer),
        "sulfoxides": (changed(zinc, SULFOXIDE), fewer),
    }
    rows, neutral = [], []
    with BlockLogs():
        for name, (smiles, wanted) in sets.items():
            molecules = embedded(smiles, wanted)
            cells = [name, str(len(molecules))]
            for method in (ours, theirs):
                same, resonant, duration = measured(molecules, method)
                cells += [f"{same} + {resonant}", f"{duration:.1f}"]
            usable = all(atoms.info["charge"] == 0 for _, atoms in molecules)
            rows.append([*cells, str(valid(molecules)) if usable else "-"])
            neutral += molecules if name in ("ZINC, neutral", "QM9, neutral") else []
            print(rows[-1], flush=True)
        wrong = [(name, len(images), called_fine(images)) for name, images in broken(neutral).items()]
    header = ["", "molecules", "right + resonance form", "ms", "RDKit: right + resonance form", "ms", "valid, `strict`"]
    breakage = table(["broken", "molecules", "called fine"], [[name, str(of), str(n)] for name, of, n in wrong])
    text = f"{table(header, rows)}\n{breakage}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "generators" / "molecule-metrics.md", "bond-orders", text)


if __name__ == "__main__":
    main()
