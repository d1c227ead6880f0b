"""The numbers of D3 that no functional changes; `reference.md` says where they are from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from ase.data import chemical_symbols
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).parent / "reference.safetensors"


@dataclass(frozen=True, eq=False)
class Reference:
    """Of some elements, the first axis of each tensor; atomic units, float64."""

    coordination: Tensor  # (elements, systems) of the reference systems; -1 where there is none
    c6: Tensor  # (elements, elements, systems, systems) of pairs of reference systems; 0 where there is none
    covalent: Tensor  # (elements,) radii, 4/3 of the covalent ones
    sqrt_q: Tensor  # (elements,)
    van_der_waals: Tensor  # (elements, elements) cutoff radii of pairs

    def to(self, device: torch.device) -> Reference:
        tensors = (self.coordination, self.c6, self.covalent, self.sqrt_q, self.van_der_waals)
        return Reference(*(x.to(device) for x in tensors))


@lru_cache
def _everything() -> dict[str, Tensor]:
    with torch.inference_mode(False):
        found = load_file(FILE)
        known = found["coordination"] >= 0
        found["row"] = torch.where(known, known.flatten().cumsum(0).view(known.shape) - 1, -1)
        rows = int(known.sum())
        matrix = torch.zeros(rows + 1, rows + 1, dtype=torch.float64)  # the last row is of no system
        upper = torch.triu_indices(rows, rows)
        matrix[upper[0], upper[1]] = matrix[upper[1], upper[0]] = found["c6"]
        return {**found, "matrix": matrix}


@lru_cache
def reference(elements: tuple[int, ...]) -> Reference:
    """Of these atomic numbers.

    Raises:
        ValueError: an element that D3 does not know.
    """
    known = _everything()
    unknown = [z for z in elements if not 1 <= z < len(known["covalent"])]
    if unknown:
        names = ", ".join(chemical_symbols[z] if 0 <= z < len(chemical_symbols) else f"element {z}" for z in unknown)
        raise ValueError(f"D3 does not know {names}; it knows the elements from H to Lr")
    with torch.inference_mode(False):
        chosen = torch.tensor(elements, dtype=torch.int64)
        row = known["row"][chosen]
        return Reference(
            known["coordination"][chosen],
            known["matrix"][row[:, None, :, None], row[None, :, None, :]],
            known["covalent"][chosen],
            known["sqrt_q"][chosen],
            known["van_der_waals"][chosen[:, None], chosen],
        )
