"""The numbers that D3 is made of, as one file: C6 of reference systems, their coordination numbers, and radii.

    pip install --no-deps --target d3 tad-dftd3==0.7.0 tad-mctc==0.8.0
    PYTHONPATH=.:d3 python -m benchmarks.recipes.make_d3_reference atomsml/dispersion/reference.safetensors

C6 of pairs of reference systems are symmetric: what is kept is the upper triangle of one matrix of all systems of all
elements, one element after the other. `atomsml/dispersion/reference.md` names papers and licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def tables() -> dict[str, Tensor]:
    """As tad-dftd3 has them, in atomic units, rows by atomic number; -1 is the coordination number of no system."""
    from tad_dftd3.data import R4R2
    from tad_dftd3.reference import Reference
    from tad_mctc.data.radii import COV_D3, VDW_PAIRWISE

    reference = Reference(dtype=torch.float64)
    known = reference.cn >= 0
    element, system = known.nonzero().unbind(1)
    c6 = reference.c6[element[:, None], element, system[:, None], system]
    if not torch.equal(c6, c6.T) or (c6 <= 0).any():
        raise ValueError("the C6 of pairs of reference systems must be symmetric and positive")
    upper = torch.triu_indices(len(c6), len(c6))
    return {
        "coordination": reference.cn.contiguous(),
        "c6": c6[upper[0], upper[1]],
        "covalent": COV_D3(dtype=torch.float64)[: len(known)].contiguous(),
        "sqrt_q": R4R2(dtype=torch.float64)[: len(known)].contiguous(),
        "van_der_waals": VDW_PAIRWISE(dtype=torch.float64).contiguous(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    about = {"source": "tad-dftd3 0.7.0, tad-mctc 0.8.0", "licence": "Apache-2.0", "units": "atomic"}
    save_file(tables(), output, about)
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
