"""Banks on a Ray cluster: the same file of scores as in this process, whatever dies, and nothing of Ray in sight."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

import locus
from locus import registry
from locus.audit import audit
from locus.door.model import wrap
from locus.edits import Edit, EditKind, Terms
from locus.errors import UserError
from locus.plan.config import resolve
from locus.records.store import Store
from locus.report.export import export_scores
from locus.run.executors import Tasks, executor
from studies.ray_kills import victims
from tests import wide
from tests.families import tiny
from tests.toys.jobs import Refuses, falls, square

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'locus-audit[ray]')")

PLANTED = {"model": "planted:localized:0", "claims": ("0.1",), "claim_size": 1, "train": 8, "validation": 4, "test": 6}
SMALL = {"sequential": False, "epochs": 1, "random": 4, "alpha": 0.25, "text_passages": 0, "shift_random": 1}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One for all tests, begun as a run begins its own."""
    begun = executor("ray")
    begun._connect(2)
    assert ray.is_initialized()
    yield
    begun.close()
    assert not ray.is_initialized()


def audited(out, **settings):
    """A run without its page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("locus.report.page.write", lambda *_, **__: None)
        audit(resolve("quick", **settings), out, sign=False)
    return out


def blank(place):
    """An edit of the user's own, under which nothing is a number."""
    layers = {layer: Terms(keep=torch.full((place.layout.d_in(layer),), torch.nan)) for layer in place.location.layers}
    return Edit("blank", place.location, place.layout, layers)


def faulty(mark, how, place):
    """An edit under which nothing changes, but that its maker raises, dies or hangs the first time that it is asked."""
    if not mark.exists():
        mark.touch()
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs":
            time.sleep(3600)
        raise ArithmeticError("once")
    return Edit(how, place.location, place.layout, {})


def scores(out):
    """The run's scores as `locus export --as scores` writes them."""
    folder = out.with_name(f"{out.name}-scores")
    export_scores(out, folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run(jobs, work, workers=2, **more):
    """The results of jobs by Ray, with workers of their own."""
    made = executor("ray")
    made.grace = more.pop("grace", made.grace)
    try:
        yield from made.run(Tasks(jobs, work, workers, **more))
    finally:
        made.close()


def test_workers_that_are_expected_come_up_beforehand_and_do_the_jobs():
    made = executor("ray")
    try:
        made.expect(2)
        early = {actor._actor_id for actor in made.early}
        jobs = Tasks([0, 1], square, workers=1)  # one is of use: the other ends
        assert [value for value, _ in made.run(jobs)] == [0, 1]
        assert {member.actor._actor_id for member in made.team} < early and len(early) == 2 and not made.early
    finally:
        made.close()
    assert not made.team


GPUS = """
import ray
ray.init(num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
from locus.run.executors import Tasks, at_work
from tests.toys.jobs import waits
with at_work("ray", soon=1) as team:
    print(len(set(team.run(Tasks(range(4), waits, workers=1, threads=2, gpu=True)))))
"""


def test_every_gpu_of_a_machine_has_a_worker():
    """Ray is told of two; of the machine's cores there are fewer than a job has threads."""
    done = subprocess.run([sys.executable, "-c", GPUS], stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "2"


@pytest.mark.parametrize(
    "settings",
    [{**PLANTED, **SMALL, "steering": ("blank",)}, {"search": "newton", "further": 1}],
    ids=["planted, with an edit that leaves no number", "searches that begin at what others found"],
)
def test_serial_fork_and_ray_give_the_same_file(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("edits", "blank", EditKind("blank", blank, trained=False))
    settings = settings if "model" in settings else wide.settings(tmp_path / "wide", **settings)
    found = {name: scores(audited(tmp_path / name, executor=name, **settings)) for name in ("serial", "fork", "ray")}
    assert found["serial"] == found["fork"] == found["ray"]
    assert len({(tmp_path / name / "plan.json").read_bytes() for name in found}) == 1, "no plan says who ran it"
    assert len(list((tmp_path / "ray" / "edits").iterdir())) == len(list((tmp_path / "serial" / "edits").iterdir()))
    if "steering" in settings:
        assert b"not a number" in found["ray"]["scores.csv"]


def test_banks_that_raise_hang_die_or_leave_no_number_change_no_row_of_an_audit(tmp_path, monkeypatch):
    monkeypatch.setattr("locus.run.executors.ray.Ray.grace", 10.0)
    falling = ("raises", "hangs", "dies")
    found = []
    for name in ("serial", "ray"):
        monkeypatch.setattr(registry, "_registered", {})
        registry.register("edits", "blank", EditKind("blank", blank, trained=False))
        marks = tmp_path / f"marks-{name}"
        marks.mkdir()
        for how in falling:
            registry.register("edits", how, EditKind(how, partial(faulty, marks / how, how), trained=False))
            if name == "serial":
                (marks / how).touch()
        out = audited(tmp_path / name, executor=name, **PLANTED, **SMALL, bank=1, steering=("blank", *falling))
        assert {path.name for path in marks.iterdir()} == set(falling), "each fell once"
        found.append(scores(out))
    assert found[0] == found[1] and b"not a number" in found[0]["scores.csv"]


def test_a_model_in_memory_goes_there_with_its_weights(tmp_path):
    llama = tiny("llama")
    settings = {**SMALL, "claim": "0.1", "train": 8, "validation": 4, "test": 6, "sign": False, "progress": False}
    found = []
    for name in ("serial", "ray"):
        out = tmp_path / name
        locus.audit(wrap(llama.hf, llama.tokenizer), out=out, executor=name, **settings)
        found.append(scores(out))
    assert found[0] == found[1]


def test_results_come_in_order_with_progress_and_warnings():
    told = []
    with pytest.warns(RuntimeWarning, match="heard there"):
        found = list(run(range(6), square, progress=lambda place, share: told.append((place, share))))
    assert [value for value, _ in found] == [number * number for number in range(6)]
    assert os.getpid() not in {process for _, process in found}
    assert (0, 0.5) in told


@pytest.mark.parametrize("how", ["dies", "hangs", "raises"])
def test_a_job_whose_worker_falls_is_done_by_another(tmp_path, how):
    jobs = [(number, how, int(number == 1), str(tmp_path)) for number in range(4)]
    more = {"seconds": lambda: [0.01] * 4, "grace": 2.0} if how == "hangs" else {}
    assert list(run(jobs, falls, **more)) == [0, 1, 2, 3]
    assert [(tmp_path / str(number)).read_text() for number in range(4)] == ["x", "xx", "x", "x"]


POISONED = {"dies": "job 1, whose worker died 2 times", "hangs": "job 1, whose worker hung 2 times", "raises": "job 1"}


@pytest.mark.parametrize(("how", "said"), POISONED.items())
def test_a_poisoned_job_ends_the_run_with_its_own_error(tmp_path, how, said):
    jobs = [(number, how, 9 * (number == 1), str(tmp_path)) for number in range(3)]
    coming = run(jobs, falls, **({"seconds": lambda: [0.01] * 3, "grace": 2.0} if how == "hangs" else {}))
    assert next(coming) == 0
    with pytest.raises(ZeroDivisionError if how == "raises" else UserError, match=said):
        next(coming)
    assert (tmp_path / "1").read_text() == "xx"


def test_a_worker_that_refuses_ends_the_run():
    with pytest.raises(UserError, match=r"locus 0\.0\.0"):
        list(run(range(3), Refuses()))


def test_a_worker_holds_versions_and_weights_against_those_of_the_run(monkeypatch):
    from locus.behaviours import load
    from locus.run.setup import set_up
    from locus.run.task import Sent, arrived

    config = resolve("quick", **PLANTED, **SMALL)
    sent = Sent.of(set_up(config, load(config.data), lambda what, share: None))
    assert arrived(sent).context.model.fingerprint == sent.fingerprint
    with pytest.raises(UserError, match=r"torch .* for 1\.0"):
        arrived(replace(sent, made_by={**sent.made_by, "torch": "1.0"}))
    with pytest.raises(UserError, match="source"):
        arrived(replace(sent, made_by={**sent.made_by, "source": "0" * 16}))
    with pytest.raises(UserError, match="with other weights"):
        arrived(replace(sent, config=sent.config.model_copy(update={"model": "planted:localized:1"})))


def test_no_cluster_at_an_address_is_said_before_anything_is_loaded(tmp_path):
    told, config = [], resolve("quick", **PLANTED, **SMALL, executor="ray:127.0.0.1:1")
    with pytest.raises(UserError, match=r"a Ray cluster at HOST:PORT; received '127\.0\.0\.1:1'"):
        audit(config, tmp_path / "RUN", lambda what, share: told.append(what))
    assert not told and not (tmp_path / "RUN").exists()
    with pytest.raises(UserError, match="an executor that takes what follows 'serial'"):
        executor("serial:2")


ENDS = {  # whom to send which signal, the status, and what is said
    "Ctrl-C": ("", signal.SIGINT, 130, "the same command goes on from there"),
    "a killed driver": ("driver", signal.SIGKILL, -signal.SIGKILL, ""),
    # Workers do what they were given without a head, so that a run may reach its end before its loss is noticed.
    "a lost head": ("head", signal.SIGKILL, 2, "the same command goes on from there"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_run_that_was_ended_goes_on_and_ray_says_nothing(tmp_path, how):
    whom, sent, status, words = ENDS[how]
    settings = {**wide.settings(tmp_path / "wide"), "bank": 1, "random": 40}  # long enough to be ended once it has begun
    out, told = tmp_path / "RUN", tmp_path / "settings.toml"
    told.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    command = [sys.executable, "-m", "locus", "audit", "--out", str(out), "--config", str(told), "--no-sign"]
    command += ["--set", "executor=ray"]
    # Where the tests run in the background of a shell, children are born deaf to SIGINT.
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, start_new_session=True, preexec_fn=hear)
    while process.poll() is None and not list((out / "edits").glob("*.safetensors")):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1]
    if whom:
        (victim,) = victims(process.pid, whom)
        os.kill(victim, sent)
    else:
        os.killpg(process.pid, sent)  # as a terminal does: every process of the group hears it
    _, said = process.communicate(timeout=240)
    store = Store(out / "trials.sqlite")
    done = len(store.done())
    store.close()
    finished = whom == "head" and process.returncode == 0
    assert (process.returncode == status or finished) and done, said
    assert "gcs" not in said.lower() and ("ray" not in said.lower() or whom == "head") and (words in said or finished)
    whole = tmp_path / "WHOLE"
    whole.mkdir()
    shutil.copy(out / "plan.json", whole)  # with the threads that it was begun with
    assert scores(audited(out, **settings)) == scores(audited(whole, **settings))
