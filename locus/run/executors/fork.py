"""Tasks side by side: one process a core, each with one thread.

Two threads on one matrix product wait for one another at every operation, and what lies between the products hardly fills one of
them; two products at once do not. The workers are forked, so that they share the loaded model and everything read from it.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from locus.boundary.notices import notice
from locus.errors import UserError
from locus.machine.workers import fork, forks
from locus.run.executors.base import JobFunction, Progress, Tasks, sendable
from locus.run.executors.serial import Serial

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in Linux's prctl.h


class Fork:
    """Does tasks in forked processes; with one worker, or where processes cannot be forked safely, here, one after another."""

    def run(self, tasks: Tasks) -> Generator[Any, None, None]:
        """The result of every job, in order.

        Raises:
            UserError: if a worker was ended from outside, as by a system that ran out of memory.
        """
        if tasks.workers < 2 or len(tasks.jobs) < 2 or not forks():
            yield from Serial().run(tasks)
            return
        team: dict[Connection, Any] = {}
        waiting, finished = iter(range(len(tasks.jobs))), dict[int, tuple[bool, Any]]()
        try:
            for _ in range(min(tasks.workers, len(tasks.jobs))):
                parent_end, worker_end = multiprocessing.Pipe()
                process = fork(_serve, (worker_end, [*team, parent_end], tasks.jobs, tasks.work, os.getpid()))
                worker_end.close()
                team[parent_end] = process
                parent_end.send(next(waiting))
            for number in range(len(tasks.jobs)):
                while number not in finished:
                    for connection in wait(list(team)):
                        assert isinstance(connection, Connection), "a team is waited for by its pipes"
                        _hear(connection, team[connection], waiting, finished, tasks.progress)
                good, result = finished.pop(number)
                if not good:
                    raise result
                yield result
        finally:
            for connection, process in team.items():
                process.kill()
                process.join()
                connection.close()


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
        notice(value)
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
                    answer = "error", number, sendable(error)
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
