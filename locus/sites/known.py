"""What has no place among others is known by a number: the beginning of a hash, or a way of drawing it and which draw it is."""

import hashlib

import numpy as np
import numpy.typing as npt

HASHED = 1 << 47  # set in what is known by its content
NUMBERS = 1 << 16  # draws of one way
WAYS = ("covariance", "shuffled", "isotropic")
MEANS = (len(WAYS) + 1) * NUMBERS  # the difference of the class means themselves


def index_of(vector: npt.NDArray[np.float32]) -> int:
    """What a vector is known by: the beginning of a hash of its content."""
    digest = hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").tobytes()).digest()
    return HASHED | int.from_bytes(digest[:6], "big")


def drawn(way: str, number: int) -> int:
    """What a random direction is known by."""
    return (1 + WAYS.index(way)) * NUMBERS + number


def said(index: int) -> tuple[str, int]:
    """The way in which a direction is drawn, and the number of the draw; "" of what is known by its content."""
    way, number = divmod(index, NUMBERS)
    return (("", *WAYS, "means")[way], number) if 0 < way <= len(WAYS) + 1 else ("", 0)
