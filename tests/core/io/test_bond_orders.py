"""Bond orders and formal charges against the SMILES that chemists write, which RDKit reads."""

import random

import numpy as np
import pytest
from rdkit import Chem

from atomsml.io import mol_from_smiles, with_bond_orders
from atomsml.io.bond_orders import bond_orders

# each as it should come back from its connectivity and total charge
GROUPS = {
    "nitro": "O=[N+]([O-])c1ccccc1",
    "two nitro groups": "O=[N+]([O-])c1cc([N+](=O)[O-])cc(Cl)c1",
    "dinitrogen tetroxide": "[O-][N+](=O)[N+](=O)[O-]",
    "azide": "CN=[N+]=[N-]",
    "azide ion": "[N-]=[N+]=[N-]",
    "diazo": "C=[N+]=[N-]",
    "diazoketone": "CC(=O)C=[N+]=[N-]",
    "nitrous oxide": "[N-]=[N+]=O",
    "isocyanide": "[C-]#[N+]C",
    "carbon monoxide": "[C-]#[O+]",
    "nitrile oxide": "CC#[N+][O-]",
    "ozone": "O=[O+][O-]",
    "N-oxide": "C[N+](C)(C)[O-]",
    "pyridine oxide": "[O-][n+]1ccccc1",
    "nitrone": "C=[N+](C)[O-]",
    "azoxy": "CN=[N+](C)[O-]",
    "sulfoxide": "CS(C)=O",
    "sulfone": "CS(C)(=O)=O",
    "sulfonamide": "CS(N)(=O)=O",
    "sulfoximine": "CS(C)(=N)=O",
    "sulfonium ylide": "C[S+](C)[CH2-]",
    "phosphate": "COP(=O)(O)O",
    "phosphorus ylide": "C=P(C)(C)C",
    "perchloric acid": "[O-][Cl+3]([O-])([O-])O",
    "sulfur hexafluoride": "FS(F)(F)(F)(F)F",
    "diacetoxyiodobenzene": "CC(=O)OI(OC(C)=O)c1ccccc1",
    "boronic acid": "OB(O)c1ccccc1",
    "silane": "C[Si](C)(C)C",
    "selenophene": "c1cc[se]c1",
    "benzothiadiazole": "c1ccc2nsnc2c1",
    "pyrrole": "c1cc[nH]c1",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "azulene": "c1ccc2cccc-2cc1",
    "cumulene": "C=C=C=C",
    "zwitterion": "[NH3+]CC(=O)[O-]",
    "carboxylate": "CC(=O)[O-]",
    "ammonium": "C[NH+](C)C",
    "guanidinium": "NC(N)=[NH2+]",
    "imidazolium": "Cn1cc[nH+]c1",
    "iminium": "C=[N+](C)C",
    "phenolate": "[O-]c1ccccc1",
    "cyanate": "N#C[O-]",
    "thiocyanate": "N#C[S-]",
    "imide ion": "CC(=O)[N-]C(C)=O",
    "sulfonamide ion": "C[N-]S(C)(=O)=O",
    "nitrate": "O=[N+]([O-])[O-]",
    "sulfonium": "C[S+](C)C",
    "pyrylium": "c1cc[o+]cc1",
    "tropylium": "c1ccc[cH+]cc1",
    "cyclopentadienide": "c1cc[cH-]c1",
    "tetrafluoroborate": "F[B-](F)(F)F",
    "iodonium": "c1ccc([I+]c2ccccc2)cc1",
    "acetylide": "[C-]#[C-]",
    "iodide": "[I-]",
    "sulfate": "O=S(=O)([O-])[O-]",
}


def shuffled(smiles: str, seed: int) -> Chem.Mol:
    """All atoms, in another order."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    order = list(range(mol.GetNumAtoms()))
    random.Random(seed).shuffle(order)
    return Chem.RenumberAtoms(mol, order)


def bare(mol: Chem.Mol) -> Chem.Mol:
    """Single bonds, no charges, and no geometry."""
    plain = Chem.RWMol()
    for atom in mol.GetAtoms():
        plain.AddAtom(Chem.Atom(atom.GetAtomicNum()))
    for bond in mol.GetBonds():
        plain.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return plain


def plain_smiles(mol: Chem.Mol) -> str:
    return str(Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False))


@pytest.mark.parametrize("smiles", GROUPS.values(), ids=GROUPS)
def test_groups_are_written_as_chemists_do_in_any_order_of_atoms(smiles: str) -> None:
    for seed in range(3):
        mol = shuffled(smiles, seed)
        found = with_bond_orders(bare(mol), Chem.GetFormalCharge(mol))
        assert plain_smiles(found) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    "smiles", ["CCNC(=[NH2+])N(C)C(C)C", "CN1C=C[N+](CC)=C1", "CC(=O)C=C(C)[O-]", "CCN(C)C=CC=CC=[N+](C)CCC"]
)
def test_of_resonance_forms_always_the_same_is_chosen(smiles: str) -> None:
    found = set()
    for seed in range(8):
        mol = shuffled(smiles, seed)
        found.add(plain_smiles(with_bond_orders(bare(mol), Chem.GetFormalCharge(mol))))
    assert len(found) == 1
    # and it is one that RDKit enumerates
    flags = Chem.ResonanceFlags.UNCONSTRAINED_CATIONS | Chem.ResonanceFlags.UNCONSTRAINED_ANIONS
    forms = Chem.ResonanceMolSupplier(Chem.MolFromSmiles(smiles), flags)
    assert found <= {Chem.CanonSmiles(Chem.MolToSmiles(form)) for form in forms}


def test_bond_lengths_choose_between_kekule_structures() -> None:
    """The two bond shift isomers of dimethylcyclooctatetraene are different molecules."""
    for smiles in ("CC1=C(C)C=CC=CC=C1", "CC1=CC=CC=CC=C1C"):
        mol = mol_from_smiles(smiles)
        plain = bare(mol)
        plain.AddConformer(mol.GetConformer())
        assert plain_smiles(with_bond_orders(plain, 0)) == Chem.CanonSmiles(smiles)


def test_a_protein_of_many_unsaturated_parts_takes_less_than_a_second() -> None:
    mol = Chem.AddHs(Chem.MolFromSequence("GAVLIFWPSTYCMNQDERHK" * 2))
    assert mol.GetNumAtoms() > 600
    found = with_bond_orders(bare(mol), 0, time_limit=1.0)
    assert plain_smiles(found) == plain_smiles(mol)


@pytest.mark.parametrize(
    ("numbers", "pairs", "charge", "reason"),
    [
        ([6, 1, 1, 1], [(0, 1), (0, 2), (0, 3)], 0, "9 electrons, an odd number: one is unpaired"),
        ([6, 1, 1], [(0, 1), (0, 2)], 0, r"atom 0 \(C\) has too few neighbours \(2\)"),
        ([6, 1, 1, 1, 1, 1], [(0, i) for i in range(1, 6)], 1, r"atom 0 \(C\) has 5 neighbours, which are too many"),
        ([8, 1, 1, 1], [(0, 1), (0, 2)], 1, r"atom 3 \(H\) has no neighbours"),
        ([11, 17], [(0, 1)], 0, r"no valences are known of Na \(atom 0\)"),
        ([7, 1, 1, 1, 1], [(0, i) for i in range(1, 5)], -1, r"the valences of the atoms add up to \+1"),
        ([2], [], 0, "no valences are known of He"),
    ],
)
def test_what_has_no_bond_orders_says_why(numbers: list, pairs: list, charge: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        bond_orders(numbers, pairs, charge)


def test_a_time_limit_that_is_too_short() -> None:
    benzene = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    with pytest.raises(TimeoutError, match="bond orders took more than 0 s"):
        with_bond_orders(bare(benzene), 0, time_limit=0.0)


def test_the_same_charge_on_any_seed_of_a_geometry() -> None:
    """Charges do not depend on the noise of bond lengths."""
    mol = mol_from_smiles("CCNC(=[NH2+])N(C)C")
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(8):
        plain = bare(mol)
        noisy = Chem.Conformer(mol.GetConformer())
        for i in range(mol.GetNumAtoms()):
            noisy.SetAtomPosition(i, mol.GetConformer().GetPositions()[i] + rng.normal(0, 0.03, 3))
        plain.AddConformer(noisy)
        found.add(plain_smiles(with_bond_orders(plain, 1)))
    assert len(found) == 1
