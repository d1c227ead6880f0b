"""Functional groups on molecules whose groups every chemist knows, and beside those of RDKit's module Fragments."""

import pytest
from rdkit import Chem
from rdkit.Chem import Fragments

from atomsml.generative.molecules.metrics.groups import FEATURES, GROUPS, HISTOGRAMS, features, histogram

HAVE = {  # SMILES of a molecule: all its groups
    "CC=C": {"alkene"},
    "CC#C": {"alkyne"},
    "C=C=C": {"allene or ketene"},
    "C=C=O": {"allene or ketene"},
    "CC#N": {"nitrile"},
    "CCO": {"alcohol"},
    "Oc1ccccc1": {"phenol"},
    "C=CO": {"enol", "alkene"},
    "COC": {"ether"},
    "COC=C": {"ether", "enol ether", "alkene"},
    "C1CO1": {"epoxide", "ether"},
    "C1COC1": {"oxetane", "ether"},
    "COCOC": {"acetal", "ether"},
    "OC1CCCO1": {"acetal", "alcohol", "ether"},
    "CC=O": {"aldehyde"},
    "CC(C)=O": {"ketone"},
    "CC(=O)O": {"carboxylic acid"},
    "COC(C)=O": {"ester"},
    "O=C1CCO1": {"ester"},
    "COC=O": {"ester"},
    "COC(=O)OC": {"carbonate"},
    "CC(N)=O": {"amide"},
    "CNC=O": {"amide"},
    "CNC(=O)OC": {"carbamate"},
    "NC(N)=O": {"urea"},
    "CN": {"primary amine"},
    "Nc1ccccc1": {"primary amine"},
    "CNC": {"secondary amine"},
    "CN(C)C": {"tertiary amine"},
    "CN(C)C=C": {"tertiary amine", "enamine", "alkene"},
    "C1CN1": {"aziridine", "secondary amine"},
    "C1CNC1": {"azetidine", "secondary amine"},
    "CNCNC": {"aminal", "secondary amine"},
    "CNCOC": {"hemiaminal", "secondary amine", "ether"},
    "CC(=O)NCNC(C)=O": {"amide"},  # no aminal: its nitrogens are amides
    "CC(=O)OCOC(C)=O": {"ester"},  # no acetal
    "CC=N": {"imine"},
    "CC(N)=N": {"amidine"},
    "COC(C)=N": {"imidate"},
    "CC=NO": {"oxime"},
    "CC=NN": {"hydrazone"},
    "CNOC": {"hydroxylamine"},
    "CNNC": {"hydrazine"},
    "CN=NC": {"azo"},
    "COOC": {"peroxide"},
    "C[N+](=O)[O-]": {"nitro", "charged atom"},
    "CN=C=O": {"isocyanate"},
    "CC1CC1": {"cyclopropane"},
    "CF": {"fluoride"},
    "CCl": {"chloride"},
    "CBr": {"bromide"},
    "CI": {"iodide"},
    "CS": {"thiol"},
    "CSC": {"thioether"},
    "CS(C)=O": {"sulfoxide"},
    "CS(C)(=O)=O": {"sulfone"},
    "CS(N)(=O)=O": {"sulfonamide"},
    "CC": set(),
    "c1ccoc1": set(),  # aromatic atoms are of no group
    "c1cc[nH]c1": set(),
    "O=c1cc[nH]cc1": set(),
}
RINGS = {
    "CC": {"acyclic"},
    "C1CC1": {"ring of 3"},
    "C1CCC2CCCC2C1": {"ring of 5", "ring of 6"},
    "c1ccoc1": {"ring of 5", "aromatic ring of 5"},
    "c1ccc2ccccc2c1": {"ring of 6", "aromatic ring of 6"},
    "C1CCCCCCC1": {"ring of 8"},
    "C1CCCCCCCCC1": {"larger ring"},
    "c1ccc2c(c1)CCC2": {"ring of 5", "ring of 6", "aromatic ring of 6"},
}


def _found(smiles: str, hydrogens: bool = False) -> set[str]:
    mol = Chem.MolFromSmiles(smiles)
    (row,) = features([Chem.AddHs(mol) if hydrogens else mol])
    return {name for name, has in zip(FEATURES, row, strict=True) if has}


@pytest.mark.parametrize("smiles", HAVE)
@pytest.mark.parametrize("hydrogens", [False, True])
def test_a_molecule_has_its_groups_and_no_others(smiles: str, hydrogens: bool) -> None:
    known = {*GROUPS, "charged atom"}
    assert _found(smiles, hydrogens) & known == HAVE[smiles]


def test_every_group_is_in_some_molecule_above() -> None:
    assert set(GROUPS) <= set().union(*HAVE.values())


@pytest.mark.parametrize("smiles", RINGS)
def test_a_molecule_has_its_rings(smiles: str) -> None:
    assert _found(smiles) & {name for name in FEATURES if "ring" in name or name == "acyclic"} == RINGS[smiles]


def test_groups_are_those_of_rdkit_where_it_means_the_same() -> None:
    theirs = {
        "aldehyde": Fragments.fr_aldehyde,
        "nitrile": Fragments.fr_nitrile,
        "epoxide": Fragments.fr_epoxide,
        "phenol": Fragments.fr_phenol,
        "nitro": Fragments.fr_nitro,
        "urea": Fragments.fr_urea,
        "azo": Fragments.fr_azo,
        "thiol": Fragments.fr_SH,
        "alkyne": lambda mol: mol.HasSubstructMatch(Chem.MolFromSmiles("C#C")),
    }
    for smiles in HAVE:
        mol, found = Chem.MolFromSmiles(smiles), _found(smiles)
        assert {name for name in theirs if theirs[name](mol)} == found & set(theirs), smiles


def test_histograms_count_everything_once() -> None:
    mols = [Chem.MolFromSmiles(smiles) for smiles in ("C1CC1C1CCCCCCCCC1", "CC[Si](C)C", "C[Sn](C)(C)C")]
    named = {
        name: [{kind: int(n) for kind, n in zip(kinds, row, strict=True) if n} for row in histogram(name, mols)]
        for name, kinds in HISTOGRAMS.items()
    }
    assert named == {
        "ring sizes": [{"3": 1, "larger": 1}, {}, {}],
        "rings": [{"2": 1}, {"0": 1}, {"0": 1}],
        "heavy atoms": [{"13": 1}, {"5": 1}, {"5": 1}],
        "elements": [{"C": 13}, {"C": 4, "Si": 1}, {"C": 4, "others": 1}],
    }
