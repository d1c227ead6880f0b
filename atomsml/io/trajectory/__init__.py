"""The HDF5 file of a run of molecular dynamics, and how to read it."""

from atomsml.io.trajectory.reader import SystemTrajectory as SystemTrajectory
from atomsml.io.trajectory.reader import Trajectory as Trajectory
