"""A file or folder that somebody hands us as a claim: read once, whole, in bounds, and known by what it begins with.

No pickle is opened, whatever its name. Nothing of an array's header is evaluated.
"""

import csv
import hashlib
import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from locus.boundary import incoming
from locus.errors import UserError, others

LIMIT = 128 << 20  # bytes of a file; a circuit of every edge of a model of 300 heads has some 15 MB
TEXT_LIMIT = 8 << 20  # of a list of heads
TENSORS = 4 << 30  # of a file of tensors, of which only those that are named are read
ROWS = 100_000  # of a table
NAMES = 2000  # of files in a folder
MAGIC = b"\x93NUMPY"
# As every version of numpy writes it; read so, nothing of a stranger's header is evaluated.
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?(?:[biu][1248]|f[248]))', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,9}, ?)*(?:\d{1,9})?)\), \}\s*"
)
PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npz")
COLUMNS = set("layer head name node component score from to source target src dst sender receiver parent child".split())

Kind = Literal["folder", "json", "array", "pickle", "gguf", "safetensors", "table", "text"]
Row = dict[str, str]


@dataclass(frozen=True)
class Source:
    """What is to be read.

    Attributes:
        path: of the file or folder.
        what: what it should be, for messages.
        part: what stands behind the path's `#`; "" for nothing.
        named: whether the user named the importer.
    """

    path: Path
    what: str
    part: str = ""
    named: bool = False

    @cached_property
    def kind(self) -> Kind:
        """What it is, by how it begins.

        Raises:
            UserError: if it is neither a regular file nor a folder.
        """
        if self.path.is_dir():
            return "folder"
        begin, suffix = self._begin(), self.path.suffix.lower()
        if begin.startswith(MAGIC):
            return "array"
        if begin.startswith(b"GGUF"):
            return "gguf"
        if suffix in PICKLED or begin.startswith(b"PK\x03\x04") or (begin[:1] == b"\x80" and begin[1:2] in b"\x02\x03\x04\x05"):
            return "pickle"
        if suffix == ".safetensors":
            return "safetensors"
        if begin.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
            return "json"
        return "table" if suffix in (".csv", ".tsv") and _headed(begin) else "text"

    def _begin(self) -> bytes:
        """The first bytes of a regular file."""
        try:
            regular = self.path.is_file()
        except (OSError, ValueError):
            regular = False
        if not regular:
            incoming.read_bytes(self.path, self.what, 0)  # says what is wrong with it
        with self.path.open("rb") as stream:
            return stream.read(512)

    @cached_property
    def bytes(self) -> bytes:
        """All of a file.

        Raises:
            UserError: if it is no regular file of a bearable size.
        """
        return incoming.read_bytes(self.path, self.what, TEXT_LIMIT if self.kind == "text" else LIMIT)

    @cached_property
    def sha256(self) -> str:
        """Of a file's bytes; "" of a folder."""
        if self.kind == "safetensors":
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        return "" if self.kind == "folder" else hashlib.sha256(self.bytes).hexdigest()

    @cached_property
    def json(self) -> Any:
        """The JSON value of a file; None where it holds none.

        Raises:
            UserError: if it begins as JSON and is none that has one meaning.
        """
        if self.kind != "json":
            return None
        try:
            return incoming.parse_json(self.bytes.decode("utf-8-sig"))
        except ValueError as error:
            raise UserError(self.what, f"{str(self.path)!r} ({str(error)[:200]})", "Mend the file.") from error

    @cached_property
    def array(self) -> Any:
        """The array of a .npy file; None where it holds none.

        Raises:
            UserError: for one that is pickled, cut, or of something other than numbers and Booleans.
        """
        if self.kind != "array":
            return None
        try:
            return parse_array(self.bytes)
        except ValueError as error:
            raise UserError(self.what, f"{str(self.path)!r} ({error})", "Save it anew with numpy.save, as numbers.") from error

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of a table with a header, by lower-case names of its columns; empty where it is none.

        Raises:
            UserError: if a row has more or fewer cells than the header, or there are too many.
        """
        if self.kind != "table":
            return []
        text = io.StringIO(incoming.text_of(self.bytes, self.what, str(self.path)), newline="")
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        try:
            lines = list(csv.reader(text, delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise UserError(self.what, f"{str(self.path)!r} ({error})", "Mend the table.") from error
        lines = [line for line in lines if line]
        names = [name.strip().lower() for name in lines[0]] if lines else []
        wrong = next((number for number, line in enumerate(lines, 1) if len(line) != len(names)), None)
        if wrong or len(set(names)) < len(names) or len(lines) > ROWS:
            problem = f"row {wrong} has {len(lines[wrong - 1])} cells, the header {len(names)}" if wrong else "a column twice"
            problem = f"above {ROWS:,} rows" if len(lines) > ROWS else problem
            raise UserError(self.what, f"{str(self.path)!r}: {problem}", "Mend the table.")
        return [dict(zip(names, map(str.strip, line), strict=True)) for line in lines[1:]]

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of what lies in a folder, none of them opened; empty where it is none."""
        if self.kind != "folder":
            return ()
        names = []
        for place in self.path.iterdir():
            names.append(place.name)
            if len(names) > NAMES:
                raise UserError(self.what, f"{str(self.path)!r} with above {NAMES:,} files", "Give the folder of one alone.")
        return tuple(sorted(names))

    def inside(self, name: str) -> Any:
        """The JSON object in a file of the folder.

        Raises:
            UserError: if it is not there as a regular file, or holds none.
        """
        value = incoming.read_json(self.path / name, self.what, inside=self.path)
        if not isinstance(value, dict):
            raise UserError(self.what, f"{str(self.path / name)!r}, which is no JSON object", "Restore the file.")
        return value

    def tensors(self, name: str = "") -> "Tensors":
        """The tensors of a safetensors file, itself or in the folder.

        Raises:
            UserError: if it is none, or cut.
        """
        path = self.path / name if name else self.path
        if not incoming.regular(path, self.path if name else None) and (name or not path.is_file()):
            raise UserError(self.what, f"no regular file {str(path)!r}", "Restore the file.")
        if path.stat().st_size > TENSORS:
            raise UserError(self.what, f"{str(path)!r} of {path.stat().st_size:,} bytes", f"{TENSORS:,} at most are read.")
        return Tensors(path, self.what)


def _headed(begin: bytes) -> bool:
    """Whether the first line of a table is a header that some importer knows."""
    cells = re.split(r"[,\t]", begin.decode("utf-8-sig", "replace").partition("\n")[0].lower())
    return bool(COLUMNS & {cell.strip().strip('"') for cell in cells})


@dataclass(frozen=True)
class Tensors:
    """A safetensors file, of which tensors are read one by one."""

    path: Path
    what: str

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor.

        Raises:
            UserError: if the file is cut, or none.
        """
        from locus.models.checkpoint import headers

        return headers(self.path)

    def read(self, name: str, row: int | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A tensor, or one row of it, as float32.

        Raises:
            UserError: if it holds what is no finite number.
        """
        import torch
        from safetensors import safe_open

        with (
            others(self.what, str(self.path), "Fetch or save the file again."),
            safe_open(str(self.path), framework="pt") as file,
        ):
            tensor = file.get_tensor(name) if row is None else file.get_slice(name)[row : row + 1][0]
            if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{self.what}, of finite numbers", f"{name[:80]!r} of {str(self.path)!r}", "Save it anew.")
            return np.asarray(tensor.float().numpy(), dtype=np.float32)


def parse_array(content: bytes) -> Any:
    """The array in a .npy file of numbers or Booleans, which has exactly the bytes that its header announces.

    Raises:
        ValueError: for anything else.
    """
    start = 10 if content[6:7] == b"\x01" else 12
    end = start + int.from_bytes(content[8:start], "little")
    header = HEADER.fullmatch(content[start:end])
    if header is None:
        raise ValueError("a .npy of something other than numbers or Booleans, not pickled")
    shape = tuple(int(size) for size in header[3].replace(b" ", b"").split(b",") if size)
    try:
        dtype = np.dtype(header[1].decode())
    except TypeError as error:
        raise ValueError(f"a .npy of {header[1].decode()}") from error
    count = 1
    for size in shape:
        count *= size
    if count * dtype.itemsize != len(content) - end:
        raise ValueError(f"a .npy of shape {list(shape)} with {len(content) - end:,} bytes behind its header")
    return np.frombuffer(content, dtype, offset=end).reshape(shape, order="F" if header[2] == b"True" else "C")
