"""What is read and stays is not searched for what could be let go."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def growing() -> Iterator[None]:
    """While a `with` block lasts (or a function that this decorates), Python looks for no circles of objects to let go.

    It would look each time that there are a quarter more of them, through all that there are: of a plan of many trials, which all
    stay, that took half of the time of reading it.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
