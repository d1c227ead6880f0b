"""NequIP in nequip: evaluates one crystal whenever it is asked to, and says how long that took.

    .venv-nequip/bin/python -m benchmarks.shared.peer_nequip PRESET REPEAT [--package FILE.nequip.pt2]

The model is one of nequip's presets, S, M or L, with random weights; with --package it is what `nequip-compile --mode
aotinductor --target ase` makes of it, and compiled now if there is no such file. The structure is silicon, REPEAT cubic
cells along each axis. Only an interpreter that has nequip can import this. The words are those of peers.answer_words:
"energy", "seconds" (of the processor).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nequip.data import from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import PresetNequIPGNNModel
from nequip.nn.compile import DictInputOutputWrapper
from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
from nequip.utils.aot import aot_export_model
from nequip.utils.global_state import set_global_state

from benchmarks.shared.peers import answer_words, sustained
from benchmarks.shared.workloads import AVG_NUM_NEIGHBORS, Structure

CUTOFF, NAMES = 5.0, ["O", "Si"]
ASE = COMPILE_TARGET_DICT["ase"]
Data = dict[str, torch.Tensor]


def build(preset: str) -> torch.nn.Module:
    model: torch.nn.Module = PresetNequIPGNNModel(
        preset=preset,
        seed=0,
        model_dtype="float32",
        r_max=CUTOFF,
        type_names=NAMES,
        avg_num_neighbors=AVG_NUM_NEIGHBORS,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )
    return model.eval()


def silicon(repeat: int) -> Data:
    """The input of a model, with neighbour lists."""
    (atoms,) = Structure("silicon", repeat).systems()
    data = from_ase(atoms)
    for transform in (ChemicalSpeciesToAtomTypeMapper(model_type_names=NAMES), NeighborListTransform(r_max=CUTOFF)):
        data = transform(data)
    return {name: data[name] for name in ASE["input"]}


def compiled(preset: str, package: Path) -> Callable[[Data], Data]:
    """What `nequip-compile` does once it has read a model."""
    if not package.exists():
        bounds = {name: torch.export.dynamic_shapes.Dim(f"num_{name}s", min=2) for name in ("graph", "node", "edge")}
        aot_export_model(
            model=build(preset),
            device="cpu",
            input_fields=ASE["input"],
            output_fields=ASE["output"],
            data=ASE["data_settings"](silicon(2)),
            batch_map=ASE["batch_map_settings"](bounds),
            output_path=str(package),
        )
    loaded: Any = torch._inductor.aoti_load_package(str(package))
    wrapped: Callable[[Data], Data] = DictInputOutputWrapper(loaded, ASE["input"], ASE["output"])
    return wrapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("repeat", type=int)
    parser.add_argument("--package", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    set_global_state(allow_tf32=False)
    model = build(arguments.preset) if arguments.package is None else compiled(arguments.preset, arguments.package)
    data = silicon(arguments.repeat)

    def evaluate() -> Data:
        """Energy, forces and stress; the model writes into what it is given."""
        found: Data = model(dict(data))
        return found

    answer_words(
        {
            "energy": lambda: float(evaluate()["total_energy"]),
            "seconds": lambda: sustained(evaluate, time.process_time),
        }
    )


if __name__ == "__main__":
    main()
