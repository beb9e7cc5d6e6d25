"""What a driver knows of workers in other processes: who they are, what they do, and what came of it."""

import socket
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from locus.errors import UserError
from locus.run.executors.base import sendable

BEGIN = "Begin one there (ray start --head), or leave the address out for one of this machine's own."
Heard = tuple[bool, Any, list[Any]]  # whether it is good, the result or the error, and warnings


@dataclass
class Member:
    """A worker as the driver sees it.

    Attributes:
        actor: Ray's handle.
        opening: the answer to come that it has opened what does the jobs; None once it has.
        place: of the job that it does; None while it does none.
        since: when it was given that.
        asked: the question how far it is that was not answered yet.
    """

    actor: Any
    opening: Any
    place: int | None = None
    since: float = 0.0
    asked: Any = None


@dataclass
class Progress:
    """Where the jobs of a call are.

    Attributes:
        waiting: places of those that nobody does yet.
        running: by the answer to come, who does it.
        finished: what came of those whose turn has not come: whether it is good, and the result or the error.
        tries: how often each was begun.
        late: of those whose worker hung and was ended.
        beat: when workers were last asked how far they are.
        alone: since when none of them has opened what does the jobs.
        seen: when the head of the cluster was last there.
    """

    waiting: deque[int]
    running: dict[Any, Member] = field(default_factory=dict)
    finished: dict[int, tuple[bool, Any]] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    late: set[int] = field(default_factory=set)
    beat: float = 0.0
    alone: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)


def heard_of(work: Callable[[], Any]) -> Heard:
    """What came of some work."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        try:
            good, value = True, work()
        except BaseException as error:  # whatever it is, the driver is where it must be raised
            good, value = False, sendable(error)
    return good, value, [one.message for one in heard]


def answers_at(address: str) -> None:
    """See that somebody answers at an address; Ray itself would try for many minutes.

    Raises:
        UserError: if nobody does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError("a Ray cluster at HOST:PORT", f"{address[:80]!r} ({error})", BEGIN) from error
