"""What an executor is: it does the tasks that it is given, wherever, and gives their results in order.

The driver alone writes the store; a task is a bank of trials (or a draw of a calibration), and no task needs another's result.
How many threads compute a task is settled in the plan, so which executor does it changes no number.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from locus import registry
from locus.errors import UserError
from locus.machine.workers import forks

Say = Callable[[float], None]
JobFunction = Callable[[Any, Say], Any]
Progress = Callable[[int, float], None]
AUTO = "auto"


@dataclass(frozen=True)
class Tasks:
    """What is to be done.

    Attributes:
        jobs: what a task is known by; small, and easily sent elsewhere.
        work: does one job, and is told how to say which share of it is done.
        workers: how many are of use at once.
        progress: called with the place of a job and the share of it that is done.
    """

    jobs: Sequence[Any]
    work: JobFunction
    workers: int
    progress: Progress = lambda place, share: None


@runtime_checkable
class Executor(Protocol):
    """Does tasks. It is made without arguments; closing the generator ends whatever it began."""

    def run(self, tasks: Tasks) -> Generator[Any, None, None]:
        """The result of every job, in the order of the jobs; one that failed raises in its turn."""
        ...


def executor(name: str, tasks: Tasks) -> Executor:
    """The executor of a name; `auto` is `fork` where several workers are of use and can be forked, else `serial`.

    Raises:
        UserError: if there is none of the name, suggesting the nearest, or what is registered is none.
    """
    several = tasks.workers > 1 and len(tasks.jobs) > 1 and forks()
    found = registry.get("executors", ("fork" if several else "serial") if name == AUTO else name)
    made = found() if callable(found) else found
    if not isinstance(made, Executor):
        raise UserError(f"an executor called {name!r}, with run(tasks)", f"{made!r:.80}", "Mend what registers it.")
    return made


def side_by_side(
    jobs: Sequence[Any], work: JobFunction, workers: int, progress: Progress, name: str = AUTO
) -> Generator[Any, None, None]:
    """The result of every job, in order, by an executor.

    Args:
        jobs: what is to be done; not one of them may need another's result.
        work: does one job; told the share of it that is done by calling its second argument.
        workers: how many at once.
        progress: called with the number of a job and the share of it that is done.
        name: of the executor.

    Raises:
        UserError: as `executor`, and as the executor does.
    """
    tasks = Tasks(jobs, work, workers, progress)
    return executor(name, tasks).run(tasks)
