"""Chains of ideal bonds and angles, atom after atom from their torsions."""

from __future__ import annotations

import math

import numpy as np

from atomsml.generative.proteins.geometry import C_N, C_N_CA, CA_C, CA_C_N, N_CA, N_CA_C

REGIONS = np.radians([(-63.0, -42.0), (-120.0, 130.0), (-70.0, 145.0), (60.0, 40.0)])  # helix, strand, PII, left


def coil(residues: int, seed: int, cis: int | None = None) -> np.ndarray:
    """N, CA and C of a chain of ideal bonds, whose torsions are of the allowed regions, in runs of five residues."""
    random = np.random.default_rng(seed)
    runs = REGIONS[random.choice(4, p=[0.45, 0.35, 0.15, 0.05], size=-(-residues // 5))].repeat(5, axis=0)
    phi, psi = (runs[:residues] + random.normal(scale=0.15, size=(residues, 2))).T
    return grown(phi, psi, cis)


def grown(phi: np.ndarray, psi: np.ndarray, cis: int | None = None) -> np.ndarray:
    """N, CA and C (residues, 3, 3) of torsions in radians; omega is 180 degrees, but 0 after the residue `cis`."""
    residues = len(phi)
    bonds, angles = [C_N, N_CA, CA_C], [CA_C_N, C_N_CA, N_CA_C]
    points = [np.zeros(3), np.array([N_CA, 0, 0])]
    points.append(points[1] + CA_C * np.array([-math.cos(N_CA_C), math.sin(N_CA_C), 0]))
    for i in range(3 * (residues - 1)):
        a, b, c = points[-3:]
        axis = (c - b) / np.linalg.norm(c - b)
        normal = np.cross(b - a, axis)
        normal /= np.linalg.norm(normal)
        turn = [psi[i // 3], 0.0 if cis == i // 3 else math.pi, phi[i // 3 + 1]][i % 3]
        angle = angles[i % 3]
        step = [-math.cos(angle), math.sin(angle) * math.cos(turn), math.sin(angle) * math.sin(turn)]
        points.append(c + bonds[i % 3] * (step[0] * axis + step[1] * np.cross(normal, axis) + step[2] * normal))
    return np.stack(points).reshape(residues, 3, 3)
