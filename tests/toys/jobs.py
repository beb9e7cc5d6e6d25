"""Jobs for executors; what imports them needs no torch."""

import os
import signal
import time
import warnings
from pathlib import Path

from locus.errors import UserError


def square(number, tell):
    """The square, and who reckoned it."""
    tell(0.5)
    warnings.warn("heard there", RuntimeWarning, stacklevel=1)
    time.sleep(4 * (number == 0))  # so that its share is asked for, and results do not come in order
    return number * number, os.getpid()


def waits(number, tell):
    """Who did it, long enough that no worker does all."""
    time.sleep(3)
    return os.getpid()


def falls(job, tell):
    """Does what the job says, the first so many times that it is asked."""
    number, how, times, place = job
    with (Path(place) / str(number)).open("a") as file:
        file.write("x")
    if (Path(place) / str(number)).stat().st_size <= times:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "hangs":
            time.sleep(3600)
        raise ZeroDivisionError(f"job {number}")
    return number


class Refuses:
    """What no worker opens."""

    def __call__(self, job, tell):
        raise AssertionError

    def __reduce__(self):
        return refuse, ()


def refuse():
    """As by a worker of other versions."""
    raise UserError("workers with the versions of who began the run", "locus 0.0.0", "Install the same there.")
