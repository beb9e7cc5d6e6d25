"""Jobs side by side: the same results as one after another, in the same order, and nothing left running."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

from locus.errors import PreconditionsError, UserError
from locus.machine.threads import thread_pool
from locus.machine.workers import fitting, forks
from locus.run.executors import side_by_side

pytestmark = pytest.mark.skipif(not forks(), reason="workers cannot be forked here")


def silent(number, share):
    pass


def square(number, tell):
    tell(0.5)
    time.sleep(0.05 * (number % 3 == 0))  # so that results do not come in order
    return number * number, os.getpid(), torch.get_num_threads()


def test_results_come_in_the_order_of_jobs_from_processes_of_one_thread():
    heard = []
    found = list(side_by_side(range(9), square, 3, lambda number, share: heard.append((number, share))))
    assert [result[0] for result in found] == [number * number for number in range(9)]
    assert {threads for _, _, threads in found} == {1}
    assert len({process for _, process, _ in found} - {os.getpid()}) == 3
    assert sorted(heard) == [(number, 0.5) for number in range(9)]


def test_a_crew_keeps_the_order_and_begins_no_more_than_it_has_in_hand():
    begun, before = [], torch.get_num_threads()

    def squared(number):
        begun.append(number)
        time.sleep(0.02 * (number % 3 == 0))
        return number * number, torch.get_num_threads(), threading.get_ident()

    taken = []
    with thread_pool(2) as each:
        for number, (square_of, threads, who) in enumerate(each(squared, range(12))):
            assert square_of == number * number
            assert len(begun) <= number + 4, "two at work, one waiting, one taken"
            taken.append((threads, who))
    assert {threads for threads, _ in taken} == {1}
    assert len({who for _, who in taken} - {threading.get_ident()}) == 2
    assert torch.get_num_threads() == before
    with thread_pool(1) as each:
        assert each is map


def test_what_fails_in_a_crew_is_raised_and_the_threads_are_given_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), thread_pool(2) as each:
        list(each(lambda number: 1 // (3 - number), range(9)))
    assert torch.get_num_threads() == before


def test_one_worker_works_here():
    found = list(side_by_side(range(3), square, 1, silent))
    assert {process for _, process, _ in found} == {os.getpid()}


def gradient(seed, tell):
    """A matrix product and its gradient, after the parent has used all its threads for the same."""
    matrix = torch.randn(400, 400, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    (matrix @ matrix).square().sum().backward()
    return float(matrix.grad.sum())


def test_workers_can_do_what_the_parent_did_with_more_threads():
    before = gradient(0, None)
    first, again = list(side_by_side([0, 0], gradient, 2, silent))
    assert first == again == pytest.approx(before, rel=1e-4)


def unlucky(number, tell):
    if number == 2:
        raise UserError("luck", "none", "Try again.")
    if number == 4:
        raise PreconditionsError([UserError("a", "b", "c"), UserError("d", "e", "f")])
    return number


@pytest.mark.parametrize(
    ("jobs", "kind", "said", "before"),
    [(range(4), UserError, "expected luck", [0, 1]), ([0, 4], PreconditionsError, "2 things", [0])],
)
def test_an_error_is_raised_in_its_turn_as_what_it_was(jobs, kind, said, before):
    come = side_by_side(jobs, unlucky, 2, silent)
    assert [next(come) for _ in before] == before
    with pytest.raises(kind, match=said):
        next(come)


def warns(number, tell):
    warnings.warn(f"job {number}", RuntimeWarning, stacklevel=1)
    return number


def test_warnings_of_workers_are_given_by_the_parent():
    with pytest.warns(RuntimeWarning) as heard:
        list(side_by_side(range(3), warns, 2, silent))
    assert sorted(str(one.message) for one in heard) == ["job 0", "job 1", "job 2"]


def dies(number, tell):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return number


def test_a_worker_ended_from_outside_is_said():
    with pytest.raises(UserError, match=r"status -9.*OMP_NUM_THREADS=1"):
        list(side_by_side(range(4), dies, 2, silent))


INTERRUPTED = """
import os, signal
from locus.run.executors import side_by_side

signal.signal(signal.SIGINT, signal.default_int_handler)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    print(list(side_by_side([1, 2], lambda job, tell: job, 2, lambda number, share: None)))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_while_forking_is_not_lost():
    said = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True, timeout=120)
    assert (said.stdout, said.stderr) == ("interrupted\n", "")


def forever(number, tell):
    if number == 0:
        return os.getpid()
    time.sleep(600)
    raise AssertionError


def test_who_stops_listening_leaves_no_process_behind():
    came = side_by_side(range(3), forever, 2, silent)
    first = next(came)
    came.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def orphans(number, tell):
    """Says who it is, then works until it notices that nobody listens."""
    tell(os.getpid())
    while True:
        time.sleep(0.05)
        tell(0.0)


def alive(process):
    """Whether a process is there and is no mere entry for a parent that does not ask for it."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def deaf(number, tell):
    """Says who it is, then works on without a word."""
    tell(os.getpid())
    time.sleep(600)


@pytest.mark.parametrize("job", [orphans, deaf])
def test_workers_end_when_their_parent_is_killed(job):
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        list(side_by_side(range(2), job, 2, lambda _, share: share and os.write(write, f"{int(share)}\n".encode())))
        os._exit(0)
    known = b""
    while known.count(b"\n") < 2:
        known += os.read(read, 100)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    children = [int(line) for line in known.split()]
    until = time.monotonic() + 60
    while any(alive(child) for child in children):
        assert time.monotonic() < until, "a worker goes on without its parent"
        time.sleep(0.05)


def test_as_many_work_at_once_as_are_of_use_and_the_memory_holds():
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    assert (fitting(2, 1), fitting(1, 1), fitting(2, 1 << 60), fitting(9, held // 3), fitting(3, 0)) == (2, 1, 1, 3, 3)


HEAPS = """
import ctypes, sys, threading
from locus.machine import threads
threads.settle()
inside, leave = threading.Barrier(4), threading.Barrier(4)
def hold():
    kept = [bytes(1000) for _ in range(100)]
    inside.wait()
    leave.wait()
for _ in range(3):
    threading.Thread(target=hold).start()
inside.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
leave.wait()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="heaps are glibc's")
@pytest.mark.parametrize("users", [None, "3"])
def test_threads_share_one_heap_unless_the_user_has_said_otherwise(tmp_path, users):
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    environment |= {} if users is None else {"MALLOC_ARENA_MAX": users}
    told = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", HEAPS, str(told)], check=True, env=environment)
    heaps = told.read_text().count("<heap nr=")
    assert heaps == 1 if users is None else heaps > 1
