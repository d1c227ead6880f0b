"""CHGNet 0.3.0 in its own program: energy, forces and stress of whatever structure it is asked for.

    .venv-chgnet/bin/python -m benchmarks.shared.peer_chgnet

Only an interpreter that has chgnet can import this. A word is the JSON of the arguments of `ase.Atoms`; the answer has
the CPU seconds that making the graph and computing took, or why there is no answer.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ase
import torch
from chgnet.model import CHGNet
from chgnet.model.dynamics import CHGNetCalculator

from benchmarks.shared.peers import MARK


def answer(calculator: CHGNetCalculator, arguments: dict[str, Any]) -> dict[str, Any]:
    atoms = ase.Atoms(**arguments)
    start = time.process_time()
    try:
        calculator.calculate(atoms, ["energy", "forces", "stress"])
    except Exception as error:  # atoms without a neighbour, for one, raise several kinds
        return {"error": f"{type(error).__name__}: {error}"}
    found = calculator.results
    results = {"energy": float(found["energy"]), "forces": found["forces"].tolist(), "stress": found["stress"].tolist()}
    return results | {"seconds": time.process_time() - start}


def main() -> None:
    torch.set_num_threads(1)
    model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    calculator = CHGNetCalculator(model=model, use_device="cpu")
    for line in sys.stdin:
        print(MARK + json.dumps(answer(calculator, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
