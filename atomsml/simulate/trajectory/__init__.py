"""Writing the file of a run, and going on from it."""

from atomsml.simulate.trajectory.checkpoint import Checkpoint as Checkpoint
from atomsml.simulate.trajectory.record import Recorder as Recorder
from atomsml.simulate.trajectory.record import record as record
from atomsml.simulate.trajectory.writer import TrajectoryWriter as TrajectoryWriter
