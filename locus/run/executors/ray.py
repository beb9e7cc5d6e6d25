"""Tasks on the workers of a Ray cluster: one that is begun here and ends with the run, or one at an address.

Ray schedules, restarts and carries; what is done here is what a run needs of it. What does the jobs goes into the object store
once, and is opened once by each worker: an actor with a GPU, or with as many cores as a job computes with. A job goes to whoever
is free. When a worker dies, Ray begins it anew, and its job goes to the next that is free. A job whose worker dies
twice, or that fails twice, ends the run with its own error, and what was finished is kept. Results come by value; nobody but the
driver writes.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from locus import registry
from locus.boundary.notices import notice
from locus.errors import UserError
from locus.run.executors.base import AHEAD, TRIES, JobFunction, Tasks, first_line, learn
from locus.run.executors.members import BEGIN, Heard, Member, Progress, answers_at, heard_of

# Of a cluster that is begun here: it tells nobody that it is there, says nothing, and computes at the driver's own priority.
OWN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}
THERE = {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE", "MALLOC_ARENA_MAX": "1", "TOKENIZERS_PARALLELISM": "false"}}  # workers
KEPT = "What was finished is kept: the same command goes on from there."
# What takes seconds to read in; by name, since what does the jobs is the caller's business.
SLOW = ("locus.run.task", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto")
LOST = 20.0  # seconds without the cluster's head; after a minute Ray would end the driver's process, in words of its own
BEAT = 1.0  # seconds between two questions how far a job is
ASKED = 8  # workers a beat, at most
GRACE = 600.0  # seconds that a job may take whatever was reckoned
ALONE = 3 * GRACE  # seconds without one worker that has come up


class Worker:
    """Holds what does the jobs, and does one after another."""

    def __init__(self) -> None:
        with suppress(ImportError):  # said where it is needed
            for name in SLOW:
                import_module(name)
        self.work: Any = None
        self.share = (-1, 0.0)

    def open(self, sent: list[Any]) -> Heard:
        """Open what does the jobs.

        Args:
            sent: where it lies in the object store; in a list, so that Ray leaves it there.
        """

        def opened() -> None:
            self.work = ray.get(sent[0])

        return heard_of(opened)

    def do(self, place: int, job: Any) -> Heard:
        """Do a job.

        Args:
            place: of the job.
            job: the job.
        """

        def say(share: float) -> None:
            self.share = (place, share)

        say(0.0)
        return heard_of(lambda: self.work(job, say))

    def reached(self) -> tuple[int, float]:
        """The place of the job that is being done, and its share."""
        return self.share


class Ray:
    """Does tasks on a cluster; workers stay from one call to the next, as long as what does the jobs is the same.

    Args:
        address: of a cluster, as HOST:PORT, or `auto` for the one that this machine belongs to; empty for one of its own.

    Raises:
        UserError: if nobody answers there.
    """

    grace = GRACE

    def __init__(self, address: str = ""):
        if address not in ("", "auto"):
            answers_at(address)
        self.address = address
        self.began, self.head = False, ""
        self.work: JobFunction | None = None
        self.sent: Any = None
        self.team: list[Member] = []
        self.early: list[Any] = []  # workers that have nothing to do yet

    def expect(self, workers: int) -> None:
        """Begin a cluster of this machine's own, whose workers read in their code while the caller goes on.

        Those that have a GPU are begun when it is known that they need one, and those of another cluster when it has room.
        """
        if not self.address:
            self._connect(workers)
            if not ray.cluster_resources().get("GPU"):
                self.early = [_begun() for _ in range(workers)]

    def run(self, tasks: Tasks) -> Generator[Any, None, None]:
        """The result of every job, in order.

        Raises:
            UserError: if there is no cluster, a worker refuses, or a job's workers died or hung again and again.
        """
        if not tasks.jobs:
            return
        try:
            self._gather(tasks)
            state, seconds = Progress(deque(range(len(tasks.jobs)))), list(tasks.seconds())
            for place in range(len(tasks.jobs)):
                while place not in state.finished:
                    self._turn(tasks, state, seconds, place)
                good, value = state.finished.pop(place)
                if not good:
                    raise value
                yield value
        except (RayError, ConnectionError) as error:
            raise UserError(
                "a Ray cluster that answers",
                f"{type(error).__name__}: {first_line(error)}",
                KEPT,
            ) from error
        finally:
            if any(member.place is not None for member in self.team):
                self._dismiss()  # somebody is still at work that nobody waits for

    def close(self) -> None:
        """End the workers, and the cluster if it was begun here."""
        self._dismiss()
        self._spare()
        if self.began:
            ray.shutdown()
            self.began = False

    def _gather(self, tasks: Tasks) -> None:
        """Have a cluster with as many workers as are of use; those that are there stay, if they hold what does these jobs."""
        if self.work is not tasks.work:
            self._dismiss()
            self._connect(tasks.threads * tasks.workers)
            self.head = ray.get_runtime_context().gcs_address
            _by_value()
            self.work, self.sent = tasks.work, ray.put(tasks.work)
        for _ in range(min(self._room(tasks), len(tasks.jobs)) - len(self.team)):
            worker = self.early.pop() if self.early else _begun(*((0, 1) if tasks.gpu else (tasks.threads, 0)))
            self.team.append(Member(worker, worker.open.remote([self.sent])))
        self._spare()

    def _connect(self, cores: int) -> None:
        """Join the cluster, or begin one with so many cores."""
        if ray.is_initialized():
            return
        for variable, setting in OWN.items():
            os.environ.setdefault(variable, setting)
        told: dict[str, object] = {"log_to_driver": False, "logging_level": "ERROR"}
        own = {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        told |= {"address": self.address} if self.address else own
        try:
            ray.init(**told)
        except Exception as error:  # that a cluster of this machine's own is late in coming up is no class of its own
            ray.shutdown()
            received = f"{self.address or 'none that came up here'!r} ({type(error).__name__}: {first_line(error)})"
            late = "Run the same command again when the machine is less busy, or with --set executor=fork."
            raise UserError("a Ray cluster", received, BEGIN if self.address else late) from error
        self.began = True

    def _room(self, tasks: Tasks) -> int:
        """How many workers are of use, and the cluster has room for.

        Raises:
            UserError: if it has none.
        """
        there = ray.cluster_resources()
        room = int(there.get("GPU", 0) if tasks.gpu else there.get("CPU", 0) // tasks.threads)
        if room < 1:
            wanted = "a GPU" if tasks.gpu else f"{tasks.threads} cores on one machine"
            remedy = "Begin the run where there are as many as its plan asks for."
            raise UserError(
                f"a Ray cluster with {wanted}", f"{there.get('CPU', 0):.0f} cores and {there.get('GPU', 0):.0f} GPUs", remedy
            )
        return room if self.address or tasks.gpu else min(room, tasks.workers)  # more would not fit into memory

    def _turn(self, tasks: Tasks, state: Progress, seconds: list[float], place: int) -> None:
        """Give jobs to whoever is free, not too far ahead of the result that is waited for, and hear what there is to hear."""
        for member in self.team:
            free = member.opening is None and member.place is None
            if free and state.waiting and state.waiting[0] < place + AHEAD * len(self.team):
                member.place, member.since = state.waiting.popleft(), time.monotonic()
                state.running[member.actor.do.remote(member.place, tasks.jobs[member.place])] = member
        coming = [*state.running, *(member.opening for member in self.team if member.opening is not None)]
        ray.wait(coming, timeout=BEAT)
        self._open(state)
        for answer in _ready(list(state.running)):
            self._hear(answer, tasks, state, seconds)
        self._ask(tasks, state)
        self._watch(tasks, state, seconds)
        self._see(state)

    def _open(self, state: Progress) -> None:
        """Hear from the workers that were opening what does the jobs.

        Raises:
            UserError: if one refuses, dies over it again and again, or none has come up for long.
        """
        for member in self.team:
            if member.opening is None or not _ready([member.opening]):
                continue
            try:
                good, value, heard = ray.get(member.opening)
            except ActorUnavailableError:  # it died, and Ray is beginning it anew
                time.sleep(BEAT / 5)
                member.opening = member.actor.open.remote([self.sent])
                continue
            except RayActorError as error:
                remedy = "Look whether it has memory enough for the model. What was finished is kept."
                received = f"one that was not begun anew ({first_line(error)})"
                raise UserError("workers that live to open the model", received, remedy) from error
            for warning in heard:
                notice(warning)
            if not good:
                raise value
            member.opening = None
        if any(member.opening is None for member in self.team):
            state.alone = time.monotonic()
        elif time.monotonic() - state.alone > ALONE:
            raise UserError("a Ray cluster whose workers come up", "none that did", "See `ray status` and the cluster's logs.")

    def _hear(self, answer: Any, tasks: Tasks, state: Progress, seconds: list[float]) -> None:
        """Take what came of a job."""
        member = state.running.pop(answer)
        place, began, member.place = member.place, member.since, None
        assert place is not None, "a job that runs has a place"
        try:
            good, value, heard = ray.get(answer)
        except RayActorError as error:
            how = "hung" if place in state.late else "died"
            value = UserError(
                "banks whose workers live until they are told to end",
                f"{tasks.called(place)}, whose worker {how} {TRIES} times ({first_line(error)})",
                f"Look whether a worker has memory enough. {KEPT}",
            )
            good, heard = False, []
            state.late.discard(place)
            member.opening = member.actor.open.remote([self.sent])
        for warning in heard:
            notice(warning)
        state.tries[place] += 1
        if not good and state.tries[place] < TRIES:
            state.waiting.appendleft(place)
            tasks.progress(place, 0.0)
            return
        if good:
            learn(seconds, place, time.monotonic() - began)
        state.finished[place] = good, value

    def _ask(self, tasks: Tasks, state: Progress) -> None:
        """Hear from every worker how far it is, and ask again: once a beat, or more seldom where they are many."""
        if time.monotonic() - state.beat < BEAT * max(1.0, len(self.team) / ASKED):
            return
        state.beat = time.monotonic()
        answered = set(_ready([member.asked for member in self.team if member.asked is not None]))
        for member in self.team:
            if member.asked in answered:
                with suppress(RayError):  # it died: its job's answer says so
                    place, share = ray.get(member.asked)
                    if place == member.place is not None:
                        tasks.progress(place, share)
                member.asked = None
            if member.asked is None and member.place is not None:
                member.asked = member.actor.reached.options(concurrency_group="watch").remote()

    def _watch(self, tasks: Tasks, state: Progress, seconds: list[float]) -> None:
        """End workers that take far longer than was reckoned: they hang."""
        for member in state.running.values():
            place = member.place
            if place is None or not seconds or place in state.late:
                continue
            limit = tasks.patience * seconds[place] + self.grace
            if time.monotonic() - member.since > limit:
                state.late.add(place)
                ray.kill(member.actor, no_restart=False)

    def _see(self, state: Progress) -> None:
        """See that the head of the cluster is there.

        Raises:
            UserError: if it has stayed away.
        """
        if time.monotonic() - state.seen < LOST / 4:
            return
        try:
            answers_at(self.head)
            state.seen = time.monotonic()
        except UserError as error:
            if time.monotonic() - state.seen > LOST:
                self.team = []  # nobody could be told to end: they end by themselves
                raise UserError("a Ray cluster whose head stays", f"none at {self.head} any more", KEPT) from error

    def _dismiss(self) -> None:
        """End the workers."""
        team, self.team, self.work, self.sent = self.team, [], None, None
        for member in team:
            _end(member.actor)

    def _spare(self) -> None:
        """End the workers that nothing is left for."""
        while self.early:
            _end(self.early.pop())


def _begun(cores: int = 1, gpus: int = 0) -> Any:
    """A worker, which Ray begins anew where it dies."""
    # `max_task_retries` stays 0: Ray would begin one again on the same worker, uncounted, while others are free.
    asked = {"num_cpus": cores, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": 0, "runtime_env": THERE}
    return ray.remote(concurrency_groups={"watch": 1})(Worker).options(**asked).remote()


def _end(actor: Any) -> None:
    with suppress(Exception):  # a cluster that is gone has no workers
        ray.kill(actor)


def _ready(answers: list[Any]) -> list[Any]:
    """Those answers that have come."""
    return list(ray.wait(answers, num_returns=len(answers), timeout=0)[0]) if answers else []


def _by_value() -> None:
    """Send along the code of what was registered from files that a worker could not import."""
    for named in registry.own().values():
        for entry in named.values():
            name = entry.target.partition(":")[0]
            module = sys.modules.get(name)
            if (
                entry.value is not None
                and module is not None
                and name != "__main__"
                and find_spec(name.partition(".")[0]) is None
            ):
                cloudpickle.register_pickle_by_value(module)
