"""Who does the banks of a plan: one executor per file, all behind one interface."""

from locus.run.executors.base import Executor, Tasks, at_work, executor, side_by_side

__all__ = ["Executor", "Tasks", "at_work", "executor", "side_by_side"]
