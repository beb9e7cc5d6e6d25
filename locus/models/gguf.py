"""The head of a GGUF file, walked with every length held against the file: what it says of the model, and where its tensors lie.

Readers of the format believe its lengths, and go on for hours where one byte of an array's is wrong. Nothing here needs torch.

Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locus.errors import UserError, raise_all
from locus.models.checkpoint import SIZES, plain, weigh, wrong_sizes
from locus.records.base import JsonObject

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
DIMENSIONS = 8
VERSIONS = (2, 3)


@dataclass
class Head:
    """What the head says: settings by name (of an array, its length); of a tensor name, shape, type and offset from `begin`."""

    settings: JsonObject
    tensors: list[tuple[str, tuple[int, ...], int, int]]
    begin: int


class _Walk:
    """A place in a file that only moves forward, and never beyond its end."""

    def __init__(self, content: mmap.mmap):
        self.content, self.at = content, 0

    def skip(self, count: int) -> int:
        """Move on by so many bytes; where they began."""
        begin, self.at = self.at, self.at + count
        if self.at > len(self.content):
            raise ValueError(f"its head goes on beyond its {len(self.content):,} bytes")
        return begin

    def number(self, form: str) -> Any:
        return struct.unpack_from(form, self.content, self.skip(struct.calcsize(form)))[0]

    def text(self) -> str:
        length = self.number("<Q")
        begin = self.skip(length)
        return self.content[begin : begin + length].decode("utf-8", "replace")

    def value(self) -> Any:
        kind = self.number("<I")
        if kind == ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            if inner in SCALARS:
                self.skip(count * struct.calcsize(SCALARS[inner]))
            elif inner == TEXT:
                for _ in range(count):  # ends with the file, since every text has a length
                    self.skip(self.number("<Q"))
            else:
                raise ValueError(f"an array of type {inner}")
            return count
        if kind != TEXT and kind not in SCALARS:
            raise ValueError(f"a setting of type {kind}")
        return self.text() if kind == TEXT else self.number(SCALARS[kind])


def read_head(path: Path) -> Head:
    """Walk the head of a GGUF file.

    Raises:
        ValueError: saying what is wrong with it.
    """
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ValueError("it does not begin as one does")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            walk = _Walk(content)
            walk.skip(4)
            if (version := walk.number("<I")) not in VERSIONS:
                raise ValueError(f"version {version}; 2 and 3 are read, with the least significant byte first")
            tensors, entries = walk.number("<Q"), walk.number("<Q")
            settings = {walk.text(): walk.value() for _ in range(entries)}
            infos = [_tensor(walk) for _ in range(tensors)]
            align = settings.get("general.alignment", 32)
            if type(align) is not int or align < 1:
                raise ValueError("a general.alignment that is no number above 0")
            begin = -(-walk.at // align) * align
            _hold(infos, len(content) - begin)
    return Head(settings, infos, begin)


def _tensor(walk: _Walk) -> tuple[str, tuple[int, ...], int, int]:
    name, count = walk.text(), walk.number("<I")
    if count > DIMENSIONS:
        raise ValueError(f"{name!r} with {count} dimensions")
    shape = tuple(walk.number("<Q") for _ in range(count))
    return name, shape, walk.number("<I"), walk.number("<Q")


def _hold(tensors: list[tuple[str, tuple[int, ...], int, int]], room: int) -> None:
    """Refuse tensors packed in a way that is unknown, or beyond the end of the file."""
    from gguf.constants import GGML_QUANT_SIZES

    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    for name, shape, kind, offset in tensors:
        if kind not in sizes:
            raise ValueError(f"{name!r} packed in the unknown way {kind}")
        block, nbytes = sizes[kind]
        if offset + -(-math.prod(shape) // block) * nbytes > room:
            raise ValueError(f"{name!r} beyond its end: it is cut")


def check_gguf(path: Path) -> None:
    """Refuse a file that is no whole GGUF file, or speaks of another model than it holds.

    Raises:
        UserError: naming what is wrong.
    """
    expected = "a whole GGUF file"
    if not path.is_file() and not path.exists():
        raise UserError(expected, f"{str(path)!r}, which is not there", "Check the path.")
    plain(path)
    try:
        head = read_head(path)
        family = head.settings.get("general.architecture")
        if not isinstance(family, str):
            raise ValueError("no general.architecture")
    except (ValueError, OSError, struct.error) as error:
        raise UserError(expected, f"{str(path)!r} ({error})", "Fetch the file again.") from error
    about: JsonObject = {name: head.settings.get(f"{family}.{name}") for names in SIZES.values() for name in names}
    about["vocab_size"] = about["vocab_size"] or head.settings.get("tokenizer.ggml.tokens")
    raise_all(wrong_sizes(about, str(path)))
    weigh(about, path.stat().st_size, str(path))
