"""The surface of Mueller and Brown (Theor. Chim. Acta 53, 75 (1979)) with its published saddle points and minima."""

from collections.abc import Generator
from typing import Any

import numpy as np

from atomsml.properties.paths.motion import Answer, Question

FACTORS = np.array([-200.0, -100.0, -170.0, 15.0])
XX, XY, YY = np.array([-1, -1, -6.5, 0.7]), np.array([0, 0, 11, 0.6]), np.array([-10, -10, -6.5, 0.7])
X0, Y0 = np.array([1, 0, -0.5, -1]), np.array([0, 0.5, 1.5, 1])
SADDLES = {"high": ((-0.822, 0.624), -40.665), "low": ((0.212, 0.293), -72.249)}
MINIMA = ((-0.558, 1.442), (-0.050, 0.467), (0.623, 0.028))


def energy(point):
    """With a spring along z."""
    x, y = point[0] - X0, point[1] - Y0
    return (FACTORS * np.exp(XX * x**2 + XY * x * y + YY * y**2)).sum() + 250 * point[2] ** 2


def gradient(point):
    x, y = point[0] - X0, point[1] - Y0
    terms = FACTORS * np.exp(XX * x**2 + XY * x * y + YY * y**2)
    return np.array([(terms * (2 * XX * x + XY * y)).sum(), (terms * (XY * x + 2 * YY * y)).sum(), 500 * point[2]])


def hessian(point, h=1e-5):
    rows = [(gradient(point + h * e) - gradient(point - h * e)) / (2 * h) for e in np.eye(3)]
    return (np.array(rows) + np.array(rows).T) / 2


class FreeMotion:
    """Of one particle in every direction."""

    masses = np.ones(3)

    def basis(self, point, weights):
        return np.eye(3)


def answered(search: Generator[Question, Answer, Any]) -> tuple[Any, int]:
    """What a search finds on the surface, and how many points it asked for."""
    question, asked = next(search), 1
    while True:
        point = question.point
        try:
            question = search.send(Answer(energy(point), gradient(point), hessian(point) if question.hessian else None))
        except StopIteration as end:
            return end.value, asked
        asked += 1
