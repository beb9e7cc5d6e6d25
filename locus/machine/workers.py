"""Independent jobs side by side: one process a core, each with one thread, results in the order of the jobs.

Two threads on one matrix product wait for one another at every operation, and what lies between the products hardly fills one of
them; two products at once do not. The workers are forked, so that they share the loaded model and everything read from it.
"""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from locus.errors import UserError

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in Linux's prctl.h

Say = Callable[[float], None]
JobFunction = Callable[[Any, Say], Any]
Progress = Callable[[int, float], None]


def side_by_side(jobs: Sequence[Any], work: JobFunction, workers: int, progress: Progress) -> Generator[Any, None, None]:
    """The result of every job, in order; a job that failed raises in its turn.

    Args:
        jobs: what is to be done; not one of them may need another's result.
        work: does one job; told the share of it that is done by calling its second argument.
        workers: processes; with 1, or where processes cannot be forked safely, jobs are done here, one after another.
        progress: called with the number of a job and the share of it that is done.

    Raises:
        UserError: if a worker was ended from outside, as by a system that ran out of memory.
    """
    if workers < 2 or len(jobs) < 2 or not forks():
        for number, job in enumerate(jobs):
            yield work(job, lambda share, number=number: progress(number, share))  # type: ignore[misc]
        return
    team: dict[Connection, Any] = {}
    waiting, finished = iter(range(len(jobs))), dict[int, tuple[bool, Any]]()
    try:
        for _ in range(min(workers, len(jobs))):
            parent_end, worker_end = multiprocessing.Pipe()
            process = fork(_serve, (worker_end, [*team, parent_end], jobs, work, os.getpid()))
            worker_end.close()
            team[parent_end] = process
            parent_end.send(next(waiting))
        for number in range(len(jobs)):
            while number not in finished:
                for connection in wait(list(team)):
                    assert isinstance(connection, Connection), "a team is waited for by its pipes"
                    _hear(connection, team[connection], waiting, finished, progress)
            good, result = finished.pop(number)
            if not good:
                raise result
            yield result
    finally:
        for connection, process in team.items():
            process.kill()
            process.join()
            connection.close()


def fitting(most: int, nbytes: int) -> int:
    """How many jobs, at most, are done at once: as many as half the memory holds; one where workers cannot be forked.

    Args:
        most: that are of use.
        nbytes: the most that one job holds.
    """
    if not forks():
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(1, min(most, memory // max(1, nbytes)))


def forks() -> bool:
    """Whether workers can be forked here: elsewhere than on Linux, libraries hold threads that a fork loses."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def fork(target: Callable[..., None], arguments: tuple[Any, ...]) -> Any:
    """A forked process that calls a function, started."""
    with warnings.catch_warnings(), _interrupted_later():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: a worker uses none of them
        process = multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True)
        process.start()
    return process


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Ctrl-C is answered at the end: raised in what libraries do around a fork, Python would print it and go on."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        signal.raise_signal(signal.SIGINT)


def _hear(
    connection: Connection, process: Any, waiting: Iterator[int], finished: dict[int, tuple[bool, Any]], progress: Progress
) -> None:
    """Take one message of a worker: progress, a warning, or a result, upon which it is given the next job."""
    try:
        kind, number, value = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise UserError(
            "worker processes that live until they are told to end",
            f"one that ended with status {process.exitcode}",
            "Most often the system was out of memory: run again with OMP_NUM_THREADS=1 (one worker), which goes on from here.",
        ) from None
    if kind == "share":
        progress(number, value)
    elif kind == "warning":
        warnings.warn(value, stacklevel=2)
    else:
        finished[number] = (kind == "result", value)
        with suppress(BrokenPipeError, StopIteration):  # broken: it died just now, as the next message says
            connection.send(next(waiting))


def _serve(connection: Connection, other_pipes: list[Connection], jobs: Sequence[Any], work: JobFunction, parent: int) -> None:
    """What a worker does: jobs by number until it is ended, or until nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _end_with(parent)
    for pipe in other_pipes:
        pipe.close()  # else a worker would hold open the pipes of others, and not notice that the parent is gone
    torch.set_num_threads(1)
    # The parent may have been printing, and so holding its printer's lock, when this process was forked.
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            number = connection.recv()

            def say(share: float, number: int = number) -> None:
                connection.send(("share", number, share))

            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("default")
                try:
                    answer = "result", number, work(jobs[number], say)
                except (BrokenPipeError, ConnectionResetError):
                    raise
                except BaseException as error:  # whatever it is, the parent is where it must be raised
                    answer = "error", number, _sendable(error)
            for warning in heard:
                connection.send(("warning", number, warning.message))
            connection.send(answer)


def _end_with(parent: int) -> None:
    """Have the system end this process at once when its parent ends, however that does.

    Else a worker of an audit that was killed would go on until it next tells of its progress, and might leave an edit in the
    folder after the audit that goes on there has tidied it.
    """
    with suppress(OSError, AttributeError):  # a system without such a call: it ends when it finds that nobody listens
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _sendable(error: BaseException) -> BaseException:
    """The error itself where it survives the way to the parent, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:  # a class may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
