"""What an executor is: it does the tasks that it is given, wherever, and gives their results in order.

The driver alone writes the store; a task is a bank of trials (or a draw of a calibration), and no task needs another's result.
How many threads compute a task is settled in the plan, so which executor does it changes no number.
"""

import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from locus import registry
from locus.errors import UserError
from locus.machine.workers import forks

Say = Callable[[float], None]
JobFunction = Callable[[Any, Say], Any]
Progress = Callable[[int, float], None]
AUTO = "auto"
TRIES = 2  # of a job whose worker dies, or that raises
AHEAD = 8  # jobs a worker that may be begun before the results before them were taken


@dataclass(frozen=True)
class Tasks:
    """What is to be done.

    Attributes:
        jobs: what a task is known by; small, and easily sent elsewhere.
        work: does one job, and is told how to say which share of it is done. Where it is pickled it may send what it needs.
        workers: how many are of use at once in this process's machine.
        progress: called with the place of a job and the share of it that is done.
        names: what each job is called in a message; its number by default.
        seconds: reckons, when asked, about how long each takes; gives nothing where nobody knows.
        patience: how many times that a job may take before whoever does it is taken to hang.
        threads: that a job computes with.
        gpu: whether a job needs a GPU.
    """

    jobs: Sequence[Any]
    work: JobFunction
    workers: int
    progress: Progress = lambda place, share: None
    names: Sequence[str] = ()
    seconds: Callable[[], Sequence[float]] = tuple
    patience: float = 30.0
    threads: int = 1
    gpu: bool = False

    def called(self, place: int) -> str:
        """What a job is called."""
        return self.names[place] if self.names else f"job {place}"


@runtime_checkable
class Executor(Protocol):
    """Does tasks. It is made without arguments, or with what follows a colon in its name; closing the generator ends whatever
    that began. One that keeps something from one call to the next has a `close` too. One whose workers take their time to come up
    may have an `expect`: told how many will be asked for, it begins them and returns.
    """

    def run(self, tasks: Tasks) -> Generator[Any, None, None]:
        """The result of every job, in the order of the jobs; one that failed raises in its turn."""
        ...


def executor(name: str, several: bool = True) -> Executor:
    """The executor of a name; `auto` is `fork` where several workers are of use and can be forked, else `serial`.

    Args:
        name: of the executor; what follows a colon is handed to it.
        several: whether several workers are of use.

    Raises:
        UserError: if there is none of the name, suggesting the nearest, or what is registered is none.
    """
    called = ("fork" if several and forks() else "serial") if name == AUTO else name
    found, (_, colon, argument) = registry.get("executors", called), called.partition(":")
    try:
        made = (found(argument) if colon else found()) if callable(found) else found
    except TypeError as error:
        raise UserError(
            f"an executor that takes what follows {called.partition(':')[0]!r}", repr(name[:80]), "Leave it out."
        ) from error
    if not isinstance(made, Executor):
        raise UserError(f"an executor called {name!r}, with run(tasks)", f"{made!r:.80}", "Mend what registers it.")
    return made


@contextmanager
def at_work(name: str, several: bool = True, soon: int = 0) -> Iterator[Executor]:
    """An executor while a `with` block lasts, after which nothing is left of it.

    Args:
        name: of the executor.
        several: whether several workers are of use.
        soon: workers that it will be asked for, where it is told beforehand.

    Raises:
        UserError: as `executor`.
    """
    made = executor(name, several)
    try:
        if soon:
            getattr(made, "expect", lambda workers: None)(soon)
        yield made
    finally:
        getattr(made, "close", lambda: None)()


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
    with at_work(name, workers > 1 and len(jobs) > 1) as made:
        yield from made.run(Tasks(jobs, work, workers, progress))


def sendable(error: BaseException) -> BaseException:
    """The error itself where it survives the way to another process, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:  # a class may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}")


def learn(seconds: list[float], place: int, took: float) -> None:
    """Where a job took longer than was reckoned, reckon with that for all that come."""
    if seconds and took > seconds[place] > 0:
        seconds[:] = [one * took / seconds[place] for one in seconds]


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
