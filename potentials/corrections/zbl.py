"""The screened nuclear repulsion of Ziegler, Biersack and Littmark, ended between bonded atoms."""

from functools import cache

import torch
from ase.data import covalent_radii

from atomsml.radial.bases import polynomial_envelope

COULOMB = 14.3996  # e^2 / (4 pi epsilon_0) in eV Å
BOHR = 0.529  # Å
EXPONENT, PREFACTOR = 0.23, 0.8854  # of the universal screening length
SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))  # weight, decay

# As LAMMPS has them: e^2 / (4 pi epsilon_0) in eV Å, the screening length in Å, weights and decays
LAMMPS_COULOMB, LAMMPS_LENGTH = 14.399645, 0.46850
LAMMPS_SCREENING = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229), (0.18175, 3.19980))


def zbl_energy(
    r: torch.Tensor,
    z_sender: torch.Tensor,
    z_receiver: torch.Tensor,
    power: int,
    exponent: float | torch.Tensor = EXPONENT,
    prefactor: float | torch.Tensor = PREFACTOR,
) -> torch.Tensor:
    """Repulsion energy of directed edges in eV, already halved: a pair is two edges, and their sum is its energy.

    1/2 k Z_i Z_j / r phi(r / a) f(r) with phi(x) = sum_k c_k exp(-d_k x) and a = prefactor * 0.529 Å / (Z_i^e + Z_j^e),
    e the exponent: J. F. Ziegler, J. P. Biersack and U. Littmark, "The stopping and range of ions in solids" (1985),
    chapter 2, with its universal screening length and the rounded constants of MACE. MACE's own files have other
    exponents and prefactors (0.300 and 0.4543, or what was trained): too weak by 2.5 to 86 for C, Si and W between 0.2
    and 1 Å. f is the polynomial envelope with the sum of the two covalent radii as cutoff, so that equilibrium
    distances are barely touched.

    Shapes all (E,); r > 0 in Å, atomic numbers int64. power is the p of the envelope.
    """
    charge_sender, charge_receiver = z_sender.to(r), z_receiver.to(r)
    screening_length = prefactor * BOHR / (charge_sender**exponent + charge_receiver**exponent)
    x = r / screening_length
    screening = sum((weight * torch.exp(-decay * x) for weight, decay in SCREENING), torch.zeros_like(x))
    radii = _covalent_radii(r.dtype, r.device)
    envelope = polynomial_envelope(r, radii[z_sender] + radii[z_receiver], power)
    return 0.5 * COULOMB * charge_sender * charge_receiver / r * screening * envelope


def lammps_zbl_energy(
    r: torch.Tensor, z_sender: torch.Tensor, z_receiver: torch.Tensor, cutoff: float, power: int
) -> torch.Tensor:
    """The same with the constants of LAMMPS's pair style zbl, ended by the envelope at one cutoff (Å) for all pairs.

    It is nequip's. At bond lengths it is still there: a network that is trained with it takes account of it.
    """
    charge_sender, charge_receiver = z_sender.to(r), z_receiver.to(r)
    x = r * (charge_sender**EXPONENT + charge_receiver**EXPONENT) / LAMMPS_LENGTH
    screening = sum((weight * torch.exp(-decay * x) for weight, decay in LAMMPS_SCREENING), torch.zeros_like(x))
    envelope = polynomial_envelope(r, cutoff, power)
    return 0.5 * LAMMPS_COULOMB * charge_sender * charge_receiver / r * screening * envelope


@cache
def _covalent_radii(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Covalent radii in Å by atomic number (B. Cordero et al., Dalton Trans. 2008, 2832), as ASE tabulates them."""
    # a constant first asked for in inference mode must still serve later gradients
    with torch.inference_mode(False):
        return torch.tensor(covalent_radii, dtype=dtype, device=device)
