"""What the frozen model says of a text, kept on disk for every audit of this machine: found by content, checked when read.

An entry is one tensor in a safetensors file with its key, a note and a checksum over all its bytes. It is written beside its
place and renamed into it, so a killed process leaves no half entry; an entry that is damaged or belongs to another key is named
in a notice and made anew. Reading maps the file into memory, so what does not fit there stays on disk.

The folder may be mounted from another machine, and shared by many. What a mapped file loses there ends the process that reads it,
so an entry is copied to this machine's disk first, and written there before it is sent. Locks spare work that two would do at
once; where a folder has none, entries are as whole, since they get their names when they are finished and are checked when read.
"""

import errno
import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from locus.boundary.notices import notice
from locus.errors import UserError
from locus.machine.mounts import away
from locus.models.locate import home

try:
    import fcntl
except ImportError:  # no such locks on this system: entries stay whole, two audits at once may make one twice
    fcntl = None  # type: ignore[assignment]

FORMAT = "locus-cache/1"
DEFAULT_GB, LARGEST_GB = 16.0, 1e9
RESERVE = 1 << 30  # bytes of the disk that are left to others
ORPHAN = 60.0  # seconds after which an unfinished file that nobody holds a lock on belongs to a dead process
LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # what a folder without locks answers
FORGOTTEN = 86_400.0  # seconds after which it does where there are no locks
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
}
UNSIGNED = "0" * 64  # stands in the header for the checksum while the checksum is taken

Key = dict[str, Any]


class CacheNotice(UserWarning):
    """Something about the cache that the user may want to know; no result depends on it."""


@dataclass(frozen=True)
class CachedTensor:
    """A cached tensor, mapped from its file, and the note kept with it."""

    values: Tensor
    note: Any


@dataclass(frozen=True)
class Usage:
    """How many entries a cache holds, their bytes, and its limit in bytes."""

    entries: int
    nbytes: int
    limit: int


class Damaged(Exception):
    """A file that is not the entry its name says; the message says what is wrong with it."""


class Cache:
    """A folder of entries with a limit in bytes; the least recently used go first.

    Args:
        folder: where entries lie; made when the first is written.
        limit: bytes; 0 keeps nothing.
        away: whether the folder is mounted from another machine.
    """

    def __init__(self, folder: Path, limit: int, away: bool = False):
        self.folder, self.limit, self.away = folder, limit, away

    @classmethod
    def standard(cls) -> "Cache":
        """The cache of this user on this machine: $LOCUS_CACHE/entries, limited to $LOCUS_CACHE_GB (16 by default, 0 for none).

        Raises:
            UserError: if the limit is not a number.
        """
        setting = os.environ.get("LOCUS_CACHE_GB", str(DEFAULT_GB))
        try:
            gigabytes = float(setting)
            if not 0 <= gigabytes <= LARGEST_GB:
                raise ValueError
        except ValueError:
            raise UserError("LOCUS_CACHE_GB as a number of gigabytes, 0 or more", repr(setting), "Set it, or unset it.") from None
        folder = home() / "entries"
        return cls(folder, int(gigabytes * 1e9), away(folder))

    def get(self, kind: str, key: Key) -> CachedTensor | None:
        """The entry of a key, or None where there is none or it was damaged (which a notice says)."""
        if not self.limit:
            return None
        path = self._path(kind, key)
        try:
            entry = _read_entry(path, _canonical(key), self.away)
        except FileNotFoundError:
            return None
        except (Damaged, OSError) as error:
            notice(f"cache entry {path.name} {error}; it is made anew", CacheNotice)
            if isinstance(error, Damaged) or not self.away:  # what fails on the way here may be whole for others
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another process may just have evicted it; what is mapped stays readable
            os.utime(path)
        return entry

    def put(self, kind: str, key: Key, values: Tensor, note: Any = None) -> None:
        """Keep a tensor and a note (JSON) under a key."""
        if self.limit:
            with self.fill(kind, key, values.shape, values.dtype, note) as target:
                target.copy_(values)

    @contextmanager
    def fill(self, kind: str, key: Key, shape: Sequence[int], dtype: torch.dtype, note: Any = None) -> Iterator[Tensor]:
        """A tensor to be filled, which lies in the file that becomes the entry when the block ends without an error.

        Where the cache cannot take it (switched off, disk full, not writable) the tensor lies in memory and is not kept.
        """
        header = _header(_canonical(key), note, shape, dtype, UNSIGNED)
        path = self._path(kind, key)
        begun = self._begin(path, len(header) + math.prod(shape) * dtype.itemsize)
        if begun is None:
            yield torch.zeros(*shape, dtype=dtype)
            return
        partial, held = begun
        try:
            with partial, held:
                mapped = mmap.mmap(held.fileno(), 0)
                mapped[: len(header)] = header
                yield _tensor(mapped, len(header), shape, dtype)
                signed = _header(_canonical(key), note, shape, dtype, hashlib.sha256(mapped).hexdigest())
                mapped[: len(header)] = signed
                mapped.flush()
                self._finish(partial, mapped, path)
        finally:
            Path(partial.name).unlink(missing_ok=True)

    def _finish(self, partial: IO[bytes], mapped: mmap.mmap, path: Path) -> None:
        """Give a whole file its name; one that lies on this machine is sent first."""
        try:
            if self.away:
                with memoryview(mapped) as view:
                    partial.write(view)
                partial.flush()
            os.fsync(partial.fileno())
            with suppress(FileNotFoundError):  # swept away: the entry is not kept, and the tensor is as good
                os.replace(partial.name, path)
        except OSError as error:
            notice(f"{path.name} is not cached: {error}", CacheNotice)

    @contextmanager
    def lock(self, key: Key) -> Iterator[None]:
        """Hold a key against other processes, so that what two need at once is made once; never hold two (they could cross)."""
        with ExitStack() as stack:
            with suppress(OSError):  # a folder that cannot be written holds nothing that two could make at once
                if self.limit:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    name = f".lock-{_digest(_canonical(key))[:2]}"  # 256 at most; two keys that share one only wait
                    stack.enter_context(_locked(self.folder / name, "another audit reads the same text; waiting for it"))
            yield

    def usage(self) -> Usage:
        """What the cache holds."""
        sizes = [size for _, size, path in self._files() if not path.name.startswith(".")]
        return Usage(len(sizes), sum(sizes), self.limit)

    def clear(self) -> Usage:
        """Delete all entries; what they were."""
        before = self.usage()
        for _, _, path in self._files():
            path.unlink(missing_ok=True)
        return before

    def _path(self, kind: str, key: Key) -> Path:
        return self.folder / f"{kind}-{_digest(_canonical(key))[:32]}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of entries and unfinished files, least recently used first."""
        files = []
        for path in [*self.folder.glob("*.safetensors"), *self.folder.glob(".partial-*")]:
            with suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        return sorted(files)

    def _begin(self, path: Path, size: int) -> tuple[IO[bytes], IO[bytes]] | None:
        """An unfinished file, locked by this process, with room made for it, and the file of a size on this machine that is to be
        filled, which may be the same; None where they cannot be had."""
        if not self.limit:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > self.limit or shutil.disk_usage(self.folder).free < size + RESERVE:
                raise OSError(f"there is no room for {size / 1e6:.1f} MB in {self.folder}")
            with _locked(self.folder / ".lock"):
                self._make_room(size)
                file = (self.folder / f".partial-{uuid.uuid4().hex}").open("x+b")
                _lock(file)
        except OSError as error:
            notice(f"{path.name} is not cached: {error}", CacheNotice)
            return None
        held = file
        try:  # blocks are reserved now: a full disk must be an error here, not a fault when a page is written
            held = tempfile.TemporaryFile() if self.away else file  # noqa: SIM115 - closed by whoever fills it
            os.posix_fallocate(held.fileno(), 0, size) if hasattr(os, "posix_fallocate") else held.truncate(size)
            return file, held
        except OSError as error:
            held.close()
            file.close()
            Path(file.name).unlink(missing_ok=True)
            notice(f"{path.name} is not cached: {error}", CacheNotice)
            return None

    def _make_room(self, size: int) -> None:
        """Sweep what dead processes left, then evict the least recently used until `size` fits; called under the lock."""
        files = []
        for used, n_bytes, path in self._files():
            if path.name.startswith(".partial-") and _abandoned(path, time.time() - used):
                path.unlink(missing_ok=True)
            else:
                files.append((n_bytes, path))
        total = sum(n_bytes for n_bytes, _ in files)
        for n_bytes, path in files:
            if total + size <= self.limit:
                break
            if not path.name.startswith("."):
                path.unlink(missing_ok=True)
                total -= n_bytes


NONE = Cache(Path(os.devnull), 0)  # keeps nothing


@contextmanager
def _locked(path: Path, busy: str = "") -> Iterator[None]:
    """Hold a file's lock; the system lets go of it when the process ends, however it ends."""
    with path.open("ab") as file:
        try:
            _lock(file, wait=not busy)
        except BlockingIOError:
            notice(busy, CacheNotice)
            _lock(file)
        yield


def _lock(file: IO[bytes], wait: bool = True) -> bool:
    """Lock an open file; whether there are such locks where it lies.

    Raises:
        BlockingIOError: if another process has it, and is not waited for.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        return False


def _abandoned(path: Path, age: float) -> bool:
    """Whether no living process is at work on an unfinished file that was last written so many seconds ago."""
    if age <= ORPHAN:
        return False
    try:
        with path.open("r+b") as file:  # a folder of another machine locks only what could be written
            return _lock(file, wait=False) or age > FORGOTTEN
    except OSError:
        return False


def _canonical(key: Key) -> str:
    return json.dumps(key, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(f"{FORMAT}|{text}".encode()).hexdigest()


def _header(key: str, note: Any, shape: Sequence[int], dtype: torch.dtype, checksum: str) -> bytes:
    """The safetensors header: 8 bytes of length, then JSON padded with spaces so that the data begin on a multiple of 64."""
    about = {"format": FORMAT, "key": key, "note": json.dumps(note), "sha256": checksum}
    size = math.prod(shape) * dtype.itemsize
    values = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": about, "values": values}, separators=(",", ":")).encode()
    padded = text + b" " * (-(len(text) + 8) % 64)
    return len(padded).to_bytes(8, "little") + padded


def _tensor(mapped: mmap.mmap, start: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    count = math.prod(shape)
    if not count:
        return torch.empty(*shape, dtype=dtype)
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=start).view(*shape)


@contextmanager
def _at_hand(path: Path, away: bool) -> Iterator[IO[bytes]]:
    """A file, or a copy of it on this machine that has no name."""
    with path.open("rb") as file:
        if not away:
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy, 1 << 22)
            copy.flush()
            yield copy


def _read_entry(path: Path, key: str, away: bool = False) -> CachedTensor:
    """Map an entry and hold it against its checksum and the key it is looked up by.

    Raises:
        FileNotFoundError: if there is none.
        Damaged: if it is cut, changed, or not the entry of this key.
    """
    with _at_hand(path, away) as file:
        if os.fstat(file.fileno()).st_size < 8:
            raise Damaged("is cut short")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # writes to it, if any, stay in this process
    length = int.from_bytes(mapped[:8], "little")
    try:
        parsed = json.loads(mapped[8 : 8 + length])
        about, values = parsed["__metadata__"], parsed["values"]
        if about["format"] != FORMAT:
            raise Damaged(f"is of the format {about['format']!r}, not {FORMAT}")
        dtype = next(one for one, name in DTYPES.items() if name == values["dtype"])
        shape, note = [int(size) for size in values["shape"]], json.loads(about["note"])
        header = _header(about["key"], note, shape, dtype, UNSIGNED)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise Damaged("does not begin like an entry") from None
    if len(mapped) != len(header) + math.prod(shape) * dtype.itemsize:
        raise Damaged(f"has {len(mapped)} bytes where {len(header) + math.prod(shape) * dtype.itemsize} belong")
    digest = hashlib.sha256(header)
    with memoryview(mapped) as view:
        digest.update(view[len(header) :])
    if digest.hexdigest() != about["sha256"] or mapped[: len(header)] != _header(
        about["key"], note, shape, dtype, about["sha256"]
    ):
        raise Damaged("does not match its checksum")
    if about["key"] != key:
        raise Damaged("belongs to another key")
    return CachedTensor(_tensor(mapped, len(header), shape, dtype), note)
