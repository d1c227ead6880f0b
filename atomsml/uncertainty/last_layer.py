"""The uncertainty of a single potential's energies, from its last layer.

Last-layer prediction rigidity (Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024)) takes
the network as a linear model of its last layer, whose posterior covariance C gives the uncertainty of an energy,

    sigma^2 = f^T C f,    C = alpha^2 (F^T F + zeta^2 I)^-1

| symbol | name | meaning |
|---|---|---|
| f | features | (weights,) gradient of an energy by the weights of the last layer, which is all they multiply |
| F^T F | gram | (weights, weights) over the training set; a row of F is f per atom, as losses count energies |
| alpha, zeta | | noise of energies per atom, and alpha / zeta the prior width of a weight; both by calibration |
| L L^T = C | factor | (weights, weights), so that sigma = |L^T f| cannot be the root of a negative number |
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from atomsml.graph import AtomicGraph
from atomsml.modelfile import find_model, load, model_hash, named_model
from atomsml.potential import Potential, Prediction, evaluate

if TYPE_CHECKING:
    from atomsml.dataset import Dataset

FORMAT = 1
_KEY = "atomsml uncertainty"  # of the metadata; model files have another, so that neither is taken for the other
_BATCH_ATOMS = 2000


class LastLayerUncertainty(nn.Module):
    """A single potential with the uncertainty of its energies from its last layer. Calling it is a `Predict`.

    `fit` makes one. It is kept beside the model file, by `save` and `load`, and belongs to these weights only.
    """

    factor: Tensor  # (weights, weights) float64: L

    def __init__(self, potential: Potential, factor: Tensor, facts: dict[str, float]) -> None:
        super().__init__()
        self.potential, self.facts = potential, facts
        self.cutoff, self.elements = potential.cutoff, potential.elements
        self.direct_forces, self.electronic_state = potential.direct_forces, potential.electronic_state
        self.jumps_at_cutoff, self.has_charges = potential.jumps_at_cutoff, potential.has_charges
        self.register_buffer("factor", factor)

    @classmethod
    def fit(cls, potential: Potential, train: Dataset, valid: Dataset) -> Self:
        """From the structures that the potential was trained on, calibrated on others.

        `facts` then hold alpha (eV/atom), zeta, how many structures of each set had an energy, and of the validation
        set the root mean square error (eV/atom) and the fraction of errors within one sigma.

        Raises:
            ValueError: a set without any energy, or an architecture without a last layer.
        """
        device = potential.references.device
        size = sum(weight.numel() for weight in potential.last_layer())
        gram, trained = torch.zeros(size, size, dtype=torch.float64), 0
        for graph in _with_energy(train, "training", device):
            rows = last_layer_features(potential, graph).double() / graph.atoms_per_system[:, None]
            gram += (rows.T @ rows).cpu()
            trained += len(rows)
        parts = []
        for graph in _with_energy(valid, "validation", device):
            error = evaluate(potential, graph, forces=False).energy - graph.system_data["energy"]
            features = last_layer_features(potential, graph).double()
            parts.append((features.cpu(), error.double().cpu(), graph.atoms_per_system.cpu()))
        features, errors, atoms = (torch.cat(column) for column in zip(*parts, strict=True))
        alpha, zeta = calibrate(gram, features, errors)
        factor = covariance_factor(gram, alpha, zeta)
        within = errors.abs() < torch.linalg.vector_norm(features @ factor, dim=1)
        facts = {
            "alpha": alpha,
            "zeta": zeta,
            "train": trained,
            "valid": len(errors),
            "rmse": (errors / atoms).square().mean().sqrt().item(),
            "within_one_sigma": within.double().mean().item(),
        }
        return cls(potential, factor.to(device), facts)

    def cast(self, dtype: torch.dtype) -> Self:
        self.potential.cast(dtype)
        return self

    def forward(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        """The potential's prediction with `energy_std`; costs one more forward pass than the prediction alone."""
        graph = graph.connected(self.cutoff)
        prediction = evaluate(self.potential, graph, forces, stress)
        features = last_layer_features(self.potential, graph).to(self.factor.dtype)
        deviation = torch.linalg.vector_norm(features @ self.factor, dim=1).to(prediction.energy.dtype)
        return dataclasses.replace(prediction, system_data={**prediction.system_data, "energy_std": deviation})

    def save(self, path: str | Path, model: str | Path) -> None:
        """Write a file that goes with `model`, the file or the name from which the potential was loaded.

        Raises:
            ValueError: no such model.
            OSError: the file cannot be written.
        """
        from atomsml.io import write_atomically

        path, file = Path(path), find_model(model)
        place = str(model) if named_model(model) is not None else os.path.relpath(file, path.parent)
        text = json.dumps({"format": FORMAT, "model": place, "sha256": model_hash(model), "facts": self.facts})
        content = serialize({"factor": self.factor.cpu()}, metadata={_KEY: text})
        write_atomically(path, lambda beside: beside.write_bytes(content))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, and the model that it goes with.

        Raises:
            ValueError: no uncertainty file, or a model that is missing or another one than it was made for.
        """
        path, description = Path(path), _read_description(path)
        model = model_of(path)
        if model_hash(model) != description["sha256"]:
            raise ValueError(f"{path} was made for another model than {model} is now; run `atomsml uncertainty` again")
        potential = load(model)
        with safe_open(path, framework="pt") as file:
            factor = file.get_tensor("factor").clone()
        size = sum(weight.numel() for weight in potential.last_layer())
        if factor.shape != (size, size) or factor.dtype != torch.float64:
            raise ValueError(f"{path} is damaged: its matrix must be {size} x {size} in float64")
        return cls(potential, factor, description["facts"])


def is_uncertainty(path: str | Path) -> bool:
    """Whether this is a file that `LastLayerUncertainty.save` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def model_of(path: str | Path) -> str | Path:
    """The model file, or the name, that an uncertainty file goes with.

    Raises:
        ValueError: no uncertainty file, or one of a newer format.
    """
    model: str = _read_description(path)["model"]
    return model if named_model(model) is not None else Path(path).parent / model


def _read_description(path: str | Path) -> dict[str, Any]:
    """format, model (relative to the file's folder, or a name), its sha256, facts of the fit."""
    if not is_uncertainty(path):
        raise ValueError(f"{path} is no uncertainty file; `atomsml uncertainty` writes one")
    with safe_open(path, framework="pt") as file:
        description: dict[str, Any] = json.loads(file.metadata()[_KEY])
    if description["format"] != FORMAT:
        raise ValueError(f"{path} has format {description['format']}, this atomsml reads {FORMAT}; update atomsml")
    return description


def last_layer_features(potential: Potential, graph: AtomicGraph) -> Tensor:
    """(systems, weights) gradients of the energies by the weights of the last layer, eV, in the network's type.

    A graph without a neighbour list gets one. The potential is left as it is, gradients and all.
    """
    graph = graph.connected(potential.cutoff)
    last = {id(weight) for weight in potential.last_layer()}
    weights = {name: w.detach().requires_grad_(id(w) in last) for name, w in potential.named_parameters()}
    with torch.enable_grad():
        atom_energies: Tensor = torch.func.functional_call(potential, weights, (graph,))
    systems = torch.arange(graph.num_systems, device=graph.device)
    belongs = (graph.batch == systems[:, None]).to(atom_energies.dtype)  # (systems, atoms)
    # one backward pass for all systems, which ends at the last layer
    gradients = torch.autograd.grad(
        atom_energies, [w for w in weights.values() if w.requires_grad], belongs, is_grads_batched=True
    )
    return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


def calibrate(gram: Tensor, features: Tensor, errors: Tensor) -> tuple[float, float]:
    """alpha and zeta under which `errors` (systems,) are the likeliest draws from N(0, sigma^2).

    For a given zeta the best alpha^2 is the mean of error^2 / (f^T (F^T F + zeta^2 I)^-1 f). zeta is searched on a grid
    of zeta^2 from 1e-10 (where float32 features still resolve it) to 1 of the largest eigenvalue of F^T F.
    """
    eigenvalues, vectors = torch.linalg.eigh(gram)
    squares = (features @ vectors).square()
    best = (float("inf"), 0.0, 0.0)
    for zeta_squared in (eigenvalues[-1] * torch.logspace(-10, 0, 41, dtype=gram.dtype)).tolist():
        variance = squares @ (eigenvalues.clamp(min=0) + zeta_squared).reciprocal()
        alpha_squared = (errors.square() / variance).mean()
        loss = (alpha_squared.log() + variance.log().mean()).item()  # -2 log likelihood per error, less 1 + log(2 pi)
        best = min(best, (loss, alpha_squared.item() ** 0.5, zeta_squared**0.5))
    return best[1], best[2]


def covariance_factor(gram: Tensor, alpha: float, zeta: float) -> Tensor:
    """L with L L^T = alpha^2 (F^T F + zeta^2 I)^-1."""
    eigenvalues, vectors = torch.linalg.eigh(gram)
    return (alpha * vectors * (eigenvalues.clamp(min=0) + zeta**2).rsqrt()).contiguous()  # as files hold it


def _with_energy(dataset: Dataset, name: str, device: torch.device) -> Iterator[AtomicGraph]:
    """The structures whose energy is known, in batches."""
    from atomsml.dataset import plan_batches

    known = np.flatnonzero(np.isfinite(dataset.energy))
    if len(known) == 0:
        raise ValueError(f"the {name} set has no energies, which the last-layer uncertainty is made from")
    for indices in plan_batches(known, dataset.num_atoms, max_atoms=_BATCH_ATOMS):
        yield dataset.batch(indices).to(device)
