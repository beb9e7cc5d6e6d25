"""Several processes that do one audit together, in lock-step, as torchrun begins them.

All of them run the same flow and reach the same numbers. The first alone speaks, and writes the run folder; each other works in a
copy of it that nobody sees. That they are in step is not taken for granted: before and after whatever is kept they compare what
they hold (`agree`). What ends one ends all, and is said once.
"""

import hashlib
import itertools
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from locus.errors import UserError
from locus.machine.torchrun import begun

AGAIN = "The same command goes on from there."
SLOW = timedelta(hours=2)  # that one may be behind another, as when weights are read
WORD = 3.0  # seconds in which what another process said before it went can be heard
_TIMES = itertools.count()
_COPIES: list[tempfile.TemporaryDirectory[str]] = []  # of run folders, which go when this process ends


def count() -> int:
    """How many processes work together now; 1 where this one works by itself."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def beside(own: Tensor) -> Tensor:
    """The tensors of all processes, [..., width], beside one another: [..., processes x width]."""
    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(count())]
    torch.distributed.all_gather(parts, own)
    return torch.cat(parts, dim=-1)


def mine(tensor: Tensor) -> Tensor:
    """This process's part of the last dimension."""
    width = tensor.shape[-1] // count()
    return tensor[..., width * begun()[0] :][..., :width].contiguous()


def agree(what: str, content: Any) -> None:
    """See that all processes hold the same.

    Args:
        what: is compared, in words.
        content: bytes, or what JSON can say.

    Raises:
        UserError: on all of them, if one holds something else.
    """
    if count() == 1:
        return
    held = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    digests: list[Any] = [None] * count()
    torch.distributed.all_gather_object(digests, hashlib.sha256(held).hexdigest())
    if other := [number for number, one in enumerate(digests) if one != digests[0]]:
        raise UserError(
            f"the same {what} in all {count()} processes",
            f"another one in process {other[0]} than in process 0",
            "Begin them on machines that compute alike, with the same files, versions and OMP_NUM_THREADS. It is not kept.",
        )


@contextmanager
def together(out: Path, sliced: bool = True) -> Iterator[Path]:
    """All processes that torchrun began work together while a `with` block lasts, each in a folder of its own.

    Args:
        out: the run folder; the first works in it, each other in a copy of what is there.
        sliced: whether they are to work together: else this one works by itself.

    Raises:
        UserError: in the first, if another ended; whatever is raised in one ends all.
    """
    if not sliced:
        yield out
        return
    from torch.distributed.distributed_c10d import PrefixStore  # not in every build of torch
    from torch.distributed.rendezvous import rendezvous

    number, total = begun()
    every, _, _ = next(rendezvous("env://", timeout=SLOW))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"locus/{attempt}/{next(_TIMES)}", every)  # nothing is left of what was before
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=number, world_size=total, timeout=SLOW)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    before = signal.signal(signal.SIGTERM, _terminated)
    ends = _Ends(store, number, total)
    try:
        yield _copied(out, number)
        ends.well()
    except BaseException as error:
        ends.ill(error)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        _let_go()


def _terminated(*_: Any) -> None:
    """torchrun ends the others where one has ended: time to say why, and to clear up."""
    raise SystemExit(128 + signal.SIGTERM)


def _let_go() -> None:
    """Close what binds the processes, whereupon the others notice."""
    if torch.distributed.is_initialized():
        with suppress(Exception):  # another may be gone already
            torch.distributed.destroy_process_group()


def _copied(out: Path, number: int) -> Path:
    """The run folder, or a copy of what the first process has in it."""
    files: dict[str, bytes] = {}
    if number == 0 and out.is_dir() and not out.is_symlink():
        regular = (path for path in out.rglob("*") if path.is_file() and not path.is_symlink())
        files = {str(path.relative_to(out)): path.read_bytes() for path in regular}
    held: list[Any] = [files]
    torch.distributed.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    if number == 0:
        return out
    _COPIES.append(tempfile.TemporaryDirectory(prefix="locus-process-"))
    own = Path(_COPIES[-1].name) / "run"
    for name, content in held[0].items():
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return own


class _Ended(NamedTuple):
    """Of what a process ended, and whether that was its own doing; without text, well."""

    text: str
    own: bool


class _Ends:
    """How each process ended, as all can read it."""

    def __init__(self, store: Any, number: int, total: int):
        self.store, self.number, self.total = store, number, total

    def well(self) -> None:
        """This one is done; those that do not lead end as the first does.

        Raises:
            UserError: if the first did not end well.
        """
        self._say("", own=False)
        while self.number and not (first := self._of(0)):
            time.sleep(0.05)
        if self.number and first and first.text:
            raise UserError("every process to end well", f"process 0, which did not ({first.text})", AGAIN)

    def ill(self, error: BaseException) -> None:
        """This one failed. The first says why all end; another leaves word of it before it goes, whereupon the first goes too.

        Raises:
            UserError: in the first, with what another ended of.
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, which comes as soon as one is gone
        own = not _lost(error)
        self._say(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}", own)
        if own and self.number and not isinstance(error, UserError | KeyboardInterrupt):
            traceback.print_exception(error, file=sys.__stderr__)  # ours to mend, so where it was must be seen
        if own or self.number:
            return
        until, said = time.monotonic() + WORD, ""
        while not said and time.monotonic() < until:
            told = [(other, self._of(other)) for other in range(1, self.total)]
            said = next((f"process {other}, which ended ({one.text})" for other, one in told if one and one.own), "")
            time.sleep(0.1)
        raise UserError("all processes to go on to the end", said or "one that is gone without a word", AGAIN) from error

    def _say(self, text: str, own: bool) -> None:
        with suppress(Exception):  # torchrun, which keeps what is said, may be gone
            self.store.set(f"ended/{self.number}", json.dumps(_Ended(text[:2000].rstrip("."), own)._asdict()))

    def _of(self, number: int) -> _Ended | None:
        """How another ended; None while it has not, or where nobody knows."""
        with suppress(Exception):
            if self.store.check([f"ended/{number}"]):
                return _Ended(**json.loads(self.store.get(f"ended/{number}")))
        return None


def _lost(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    if isinstance(error, SystemExit):
        return error.code == 128 + signal.SIGTERM
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "onnection", "ProcessGroup"))
    return said or isinstance(error, torch.distributed.DistError)
