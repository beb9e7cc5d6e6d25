"""Processes that are forked from this one, and how many of them are of use."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
