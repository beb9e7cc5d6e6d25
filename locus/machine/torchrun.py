"""Whether torchrun began this process as one of several, and which of them speaks."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def begun() -> tuple[int, int]:
    """This process's number and how many torchrun began; 0 and 1 where it began none, or one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    number, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return (int(number), int(count)) if number.isdigit() and count.isdigit() else (0, 1)


def leads() -> bool:
    """Whether this process is the one that speaks and writes."""
    return begun()[0] == 0


@contextmanager
def quiet() -> Iterator[None]:
    """While this lasts, no process but the first writes to standard output or error."""
    if leads():
        yield
        return
    streams = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
