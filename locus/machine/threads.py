"""How many threads the mathematics may use, and how work is dealt to them.

The number is set before torch is imported, since OpenMP reads it once. Left alone, a container that is given two of sixty-four
cores starts sixty-four threads, which take turns; and threads that spin while they wait make a small, shared machine many times
slower.

With another number of threads sums are taken in another order, and results differ in their last digits. So the numbers with which
a run was begun are part of its plan, and it keeps to them wherever it goes on.
"""

import ctypes
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # as `map`
ARENA_MAX = -8  # M_ARENA_MAX in glibc's malloc.h
QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))


def settle() -> None:
    """Set OpenMP's variables where the user has not, and have all threads share one heap."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "MALLOC_ARENA_MAX" not in os.environ:
        one_heap()
    allowed, cores = granted(), os.cpu_count() or 1
    if allowed < cores:  # else torch's own choice stands: one thread a physical core
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed))


def one_heap() -> None:
    """Where the C library is glibc: one heap for all threads that begin from now on.

    Each would keep to itself what it has freed, so the most that a run holds would grow with the threads it has begun.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library has no such setting
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)


def granted(files: tuple[Path, Path] = QUOTAS) -> int:
    """Cores this process may use at once: those it may be scheduled on, cut to the container's quota (at least 1).

    Args:
        files: the quota of control groups, version 2 ("QUOTA PERIOD" in microseconds, or "max") and version 1 (QUOTA, or -1;
            the period lies beside it).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        if files[0].is_file():
            quota, period = files[0].read_text().split()
        else:
            quota, period = files[1].read_text(), files[1].with_name("cpu.cfs_period_us").read_text()
        if quota != "max" and int(quota) > 0:
            cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no control groups, or none that we can read: no quota is known
        pass
    return max(1, cores)


@contextmanager
def thread_pool(count: int) -> Iterator[Each]:
    """A `map` over so many threads, each computing with one of torch's own, while a `with` block lasts; with one, `map` itself.

    Two threads on one small matrix product wait for one another at every operation; two products at once do not. What is done
    must leave alone what another thread may be using: it returns what it found, and the caller puts it where it belongs. No more
    is begun than the threads have in hand, so that results do not pile up where the caller is slow.
    """
    if count < 2:
        yield map
        return
    import torch

    before = torch.get_num_threads()
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def each(work: Callable[[Any], Any], inputs: Iterable[Any]) -> Iterator[Any]:
            begun: deque[Future[Any]] = deque()
            for argument in inputs:
                if len(begun) > count:
                    yield begun.popleft().result()
                begun.append(pool.submit(work, argument))
            while begun:
                yield begun.popleft().result()

        try:
            yield each
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


@contextmanager
def using(count: int, products: int | None = None) -> Iterator[None]:
    """So many of torch's threads while a `with` block lasts, and so many for numpy's and scipy's matrix products.

    Args:
        count: torch's.
        products: of the other libraries; None leaves theirs alone.
    """
    import scipy.linalg  # noqa: F401 - brings a library of its own, which must be there to be told
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(products, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Arithmetic:
    """What decides in which order sums are taken, and with it the last digits of every number.

    Attributes:
        own: threads that this process has by itself.
        threads: with which the base model's passes, the checks and the probes are computed; None in a run of the first edition,
            whose plan does not say.
        bank: with which a bank of trials is computed: 1 where they are run side by side; None before that is settled.
        held: the layers, counted from the last, whose base residuals are read from the base model's own pass; below them they are
            computed with the row that needs them. None before that is settled.
        at_once: banks that are run side by side. No number depends on it, and the plan does not say.
    """

    own: int
    threads: int | None = None
    bank: int | None = None
    held: int | None = None
    at_once: int = 1

    @classmethod
    def here(cls) -> "Arithmetic":
        """That of a run which this process begins."""
        import torch

        count = torch.get_num_threads()
        return cls(count, count)

    @classmethod
    def of(cls, stated: Mapping[str, int]) -> "Arithmetic":
        """That of a plan, whoever goes on with it.

        Args:
            stated: `threads`, `bank` and `held` as the plan states them; nothing in the first edition's.
        """
        here = cls.here()
        return replace(here, **stated) if stated else replace(here, threads=None)

    @property
    def stated(self) -> dict[str, int | None]:
        """As a plan has it."""
        return {"threads": self.threads, "bank": self.bank, "held": self.held}

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What one process computes is computed so while a `with` block lasts."""
        with using(self.threads or self.own, self.threads):
            yield

    @contextmanager
    def banked(self) -> Iterator[None]:
        """A bank of trials is computed so while a `with` block lasts, in whatever process."""
        with using(self.bank or self.threads or self.own, self.threads):
            yield
