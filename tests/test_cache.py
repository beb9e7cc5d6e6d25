"""The shared cache: damage is found, kills leave nothing half, two processes share it, the oldest goes first, no number moves."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from locus.behaviours.exchange import exchanged
from locus.behaviours.items import Dataset
from locus.behaviours.prompts import prompt_format
from locus.engine import cache as module
from locus.engine.activations import base_pass
from locus.engine.cache import NONE, Cache, CacheNotice
from locus.engine.checks import checked, run_checks
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.machine.mounts import away
from locus.sites.space import SiteSpace

KEY = {"what": "a test", "layer": 3}


@pytest.fixture(params=[False, True], ids=["here", "away"])
def cache(request, tmp_path):
    """On this machine's disk, and as if the folder were another machine's."""
    return Cache(tmp_path / "entries", 10_000_000, request.param)


def only(cache):
    (path,) = cache.folder.glob("*.safetensors")
    return path


def quiet(call):
    """Run it and fail on any notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheNotice)
        return call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_what_is_put_comes_back_bit_for_bit(cache, dtype):
    values = (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    cache.put("residual", KEY, values, ["a note", 1.5])
    found = quiet(lambda: cache.get("residual", KEY))
    assert found.values.dtype == dtype and torch.equal(found.values, values) and found.note == ["a note", 1.5]
    with safe_open(str(only(cache)), framework="pt") as file:  # another reader of the format agrees
        assert torch.equal(file.get_tensor("values"), values)
    assert cache.get("residual", {**KEY, "layer": 4}) is None
    found.values.zero_()  # what a reader does to its copy stays with it
    assert torch.equal(cache.get("residual", KEY).values, values)


def test_no_values_are_values_too(cache):
    cache.put("empty", KEY, torch.empty(0, 4))
    assert cache.get("empty", KEY).values.shape == (0, 4)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte of the values": lambda path: flip(path, -3),
    "a byte of the header": lambda path: flip(path, path.read_bytes().index(b"a test")),
    "a byte of the padding": lambda path: flip(path, path.read_bytes().index(b"}}  ") + 3),
    "the length": lambda path: flip(path, 1),
    "the checksum": lambda path: flip(path, path.read_bytes().index(b'sha256":"') + 12),
    "cut within the values": lambda path: os.truncate(path, path.stat().st_size - 4),
    "cut within the header": lambda path: os.truncate(path, 100),
    "cut to nothing": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "another program's file": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(500)),
    "another safetensors file": lambda path: save_file({"values": torch.ones(3)}, str(path)),
    "a format to come": lambda path: path.write_bytes(path.read_bytes().replace(b"locus-cache/1", b"locus-cache/2")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_made_anew(cache, name):
    values = torch.arange(40.0)
    cache.put("residual", KEY, values)
    path = only(cache)
    DAMAGE[name](path)
    with pytest.warns(CacheNotice, match=f"{path.name}.*made anew"):
        assert cache.get("residual", KEY) is None
    if path.is_dir():
        path.rmdir()
    cache.put("residual", KEY, values)
    assert torch.equal(quiet(lambda: cache.get("residual", KEY)).values, values)


def test_an_entry_under_another_name_is_not_taken_for_this_one(cache):
    cache.put("residual", KEY, torch.ones(4))
    first = only(cache)
    cache.put("residual", {**KEY, "layer": 4}, torch.zeros(4))
    second = next(path for path in cache.folder.glob("*.safetensors") if path != first)
    second.write_bytes(first.read_bytes())
    with pytest.warns(CacheNotice, match="belongs to another key"):
        assert cache.get("residual", {**KEY, "layer": 4}) is None


def test_the_least_recently_used_go_first(tmp_path):
    """Four entries of 1,000 values of 8 bytes and a header of under 600 bytes fit into 35,000 bytes, five do not."""
    cache = Cache(tmp_path, 35_000)
    for layer in range(4):
        cache.put("residual", {"layer": layer}, torch.full((1000,), layer, dtype=torch.int64))
    assert cache.usage().entries == 4
    assert cache.get("residual", {"layer": 0}) is not None  # used again: layer 1 is now the oldest
    cache.put("residual", {"layer": 4}, torch.full((1000,), 4, dtype=torch.int64))
    assert [cache.get("residual", {"layer": layer}) is not None for layer in range(5)] == [True, False, True, True, True]
    assert cache.usage().nbytes <= 35_000
    with pytest.warns(CacheNotice, match="not cached"):
        cache.put("residual", {"layer": 5}, torch.zeros(5000, dtype=torch.int64))
    assert cache.usage().entries == 4, "what cannot fit evicts nothing"


def test_evicting_what_is_in_use_does_not_disturb_its_user(cache):
    cache.put("residual", KEY, torch.arange(1000))
    held = cache.get("residual", KEY).values
    assert cache.clear().entries == 1 and cache.usage().entries == 0
    assert torch.equal(held, torch.arange(1000))


def test_an_error_while_filling_leaves_nothing(cache):
    with pytest.raises(ZeroDivisionError), cache.fill("residual", KEY, (4,), torch.float32):
        raise ZeroDivisionError
    assert cache.get("residual", KEY) is None and not list(cache.folder.glob(".partial*"))


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "entries").write_text("a file where the folder should be")
    cache = Cache(tmp_path / "entries", 10_000)
    with pytest.warns(CacheNotice, match="not cached"), cache.fill("residual", KEY, (4,), torch.float32) as made:
        made.fill_(2.0)
    assert made.tolist() == [2.0] * 4 and quiet(lambda: NONE.get("residual", KEY)) is None


def write_forever(cache):
    """In a forked process, until it is killed: five keys in turn, 1.6 MB each, of which four fit."""
    torch.set_num_threads(1)  # the parent's threads do not live in a fork, and OpenMP would wait for them for ever
    number = 0
    while True:
        cache.put("residual", {"n": number % 5}, torch.full((200_000,), number % 5, dtype=torch.int64))
        number += 1


def test_kills_leave_no_half_entry(tmp_path, monkeypatch):
    """A process that does nothing but write is killed at 40 moments; what it leaves is whole, or swept by the next."""
    cache, left, seen = Cache(tmp_path, 7_000_000), 0, 0
    for number in range(40):
        writer = os.fork()
        if writer == 0:
            write_forever(cache)
        time.sleep(0.02 + 0.0013 * number)
        # Every other kill waits for a file that is being written, however slow the machine.
        until = time.monotonic() + 5
        while number % 2 and not list(tmp_path.glob(".partial*")) and time.monotonic() < until:
            pass
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        left += len(list(tmp_path.glob(".partial*")))
        for which in range(5):
            entry = quiet(lambda which=which: cache.get("residual", {"n": which}))
            assert entry is None or bool((entry.values == which).all())
            seen += entry is not None
    assert left and seen, "no kill came while a file was being written: the test saw nothing"
    monkeypatch.setattr(module, "ORPHAN", -1.0)
    cache.put("residual", {"n": 0}, torch.zeros(1, dtype=torch.int64))
    assert not list(tmp_path.glob(".partial*"))


def test_an_unfinished_file_of_a_living_process_is_not_swept(cache, monkeypatch):
    monkeypatch.setattr(module, "ORPHAN", -1.0)
    with cache.fill("residual", KEY, (4,), torch.float32) as made:
        made.fill_(1.0)
        cache.put("residual", {"n": 0}, torch.zeros(1))
        (cache.folder / ".partial-of-the-dead").write_bytes(b"x")
        cache.put("residual", {"n": 1}, torch.zeros(1))
    assert cache.get("residual", KEY).values.tolist() == [1.0] * 4
    assert not list(cache.folder.glob(".partial*"))


def test_what_another_machine_does_to_a_file_does_not_reach_who_reads_it(tmp_path):
    """A mapped file that loses its pages ends the process; so nothing of such a folder is mapped."""
    cache = Cache(tmp_path, 10_000_000, away=True)
    cache.put("residual", KEY, torch.arange(100_000))
    held = cache.get("residual", KEY).values
    os.truncate(only(cache), 0)
    assert int(held.sum()) == 100_000 * 99_999 // 2
    with cache.fill("residual", {"n": 1}, (100_000,), torch.int64) as made:
        made.fill_(3)
        os.truncate(next(tmp_path.glob(".partial*")), 0)
    assert int(made.sum()) == 300_000 == int(cache.get("residual", {"n": 1}).values.sum())


def test_a_folder_without_locks_keeps_whole_entries_all_the_same(cache, monkeypatch):
    def lockless(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", lockless)
    with cache.lock(KEY):
        quiet(lambda: cache.put("residual", KEY, torch.ones(4)))
    orphans = {".partial-old": 2 * module.FORGOTTEN, ".partial-young": 2 * module.ORPHAN}
    for name, age in orphans.items():
        (cache.folder / name).write_bytes(b"x")
        os.utime(cache.folder / name, (time.time() - age,) * 2)
    quiet(lambda: cache.put("residual", {"n": 1}, torch.zeros(1)))
    assert [path.name for path in cache.folder.glob(".partial*")] == [".partial-young"]
    assert quiet(lambda: cache.get("residual", KEY)).values.tolist() == [1.0] * 4


def test_a_failure_on_the_way_deletes_no_entry_of_others(tmp_path, monkeypatch):
    cache = Cache(tmp_path, 10_000_000, away=True)
    cache.put("residual", KEY, torch.ones(4))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copyfileobj", full)
        with pytest.warns(CacheNotice, match="No space left"):
            assert cache.get("residual", KEY) is None
    assert quiet(lambda: cache.get("residual", KEY)) is not None


def test_which_folders_lie_on_another_machine(tmp_path):
    mounts = tmp_path / "mounts"
    place = tmp_path / "a b"
    spelt = str(place).replace(" ", "\\040")
    mounts.write_text(
        f"disk / ext4 rw 0 0\nserver:/x {spelt} nfs4 rw 0 0\ns3 {spelt}/bucket fuse.s3fs rw 0 0\ntmp {spelt}/t tmpfs rw 0 0\n"
    )
    found = {name: away(place / name, mounts) for name in ("", "x/y", "bucket/y", "t/z")}
    assert found == {"": True, "x/y": True, "bucket/y": True, "t/z": False}
    assert not away(tmp_path, mounts) and not away(place, tmp_path / "nowhere")


SURVEY = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from locus.engine import activations
from locus.sites.space import SiteSpace
from locus.engine.cache import Cache
from locus.behaviours.exchange import exchanged
from locus.behaviours.items import Dataset
from locus.behaviours.prompts import prompt_format
from locus.engine.trie import build_trie
from tests.families import QUESTIONS, tiny
passes = []
original = activations._base_pass
activations._base_pass = lambda *arguments: (passes.append(sorted(arguments[3])), original(*arguments))
model = tiny("llama")
trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS)
print("ready", flush=True); sys.stdin.readline()
heads = SiteSpace.of('head', model.layout)
found = activations.base_pass(model, trie, layers=[0, 2, 3], features=heads, cache=Cache(Path(sys.argv[1]), 10**8))
print(json.dumps({"passes": len(passes), "logprobs": found.logprobs.tolist()}))
"""


def test_two_processes_at_once_make_it_once(tmp_path):
    """Both ask for the same survey at the same moment: one runs the base pass, the other waits and reads it."""
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SURVEY, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    first, second = (json.loads(process.communicate()[0]) for process in both)
    assert first["passes"] + second["passes"] == 1
    assert first["logprobs"] == second["logprobs"]


def test_a_survey_is_the_same_with_and_without(model, items, tmp_path):
    cache = Cache(tmp_path, 10**8)
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items)
    heads = SiteSpace.of("head", model.layout)
    plain = base_pass(model, trie, layers=[0, 2, 3], features=heads, tokens=64)
    for _ in range(2):  # made, then read
        found = quiet(lambda: base_pass(model, trie, layers=[0, 2, 3], features=heads, tokens=64, cache=cache))
        assert np.array_equal(found.logprobs, plain.logprobs) and np.array_equal(found.features, plain.features)
        assert all(torch.equal(found.residuals.layers[layer], plain.residuals.layers[layer]) for layer in (0, 2, 3))
    assert not np.isnan(plain.logprobs).any()


def test_only_what_is_missing_is_made(llama, items, tmp_path, monkeypatch):
    from locus.engine import activations

    asked = []
    original = activations._base_pass
    monkeypatch.setattr(activations, "_base_pass", lambda *given: (asked.append(sorted(given[3])), original(*given)))
    cache = Cache(tmp_path, 10**8)
    text = prompt_format(llama.tokenizer, "qa")
    trie, fewer = build_trie(llama.tokenizer, text, items), build_trie(llama.tokenizer, text, items[:-1])
    base_pass(llama, trie, layers=[1], cache=cache)
    base_pass(llama, trie, layers=[1, 2], cache=cache)
    base_pass(llama, trie, layers=[2], cache=cache)
    base_pass(llama, trie, layers=[2], tokens=64, cache=cache)  # rows packed otherwise round otherwise
    base_pass(llama, fewer, layers=[2], cache=cache)
    assert asked == [["logprobs", "residual-1"], ["residual-2"], ["logprobs", "residual-2"], ["logprobs", "residual-2"]]


def test_questions_with_their_sides_exchanged_are_read_once(llama, items, tmp_path, monkeypatch):
    from locus.engine import activations

    passes = []
    original = activations._base_pass
    monkeypatch.setattr(activations, "_base_pass", lambda *given: (passes.append(1), original(*given)))
    turned = exchanged(Dataset("these", tuple(items))).items
    text, found = prompt_format(llama.tokenizer, "qa"), []
    for those in (items, turned):
        trie = build_trie(llama.tokenizer, text, those)
        heads = SiteSpace.of("head", llama.layout)
        found.append(base_pass(llama, trie, layers=[1], features=heads, cache=Cache(tmp_path, 10**8)))
        answers = [(item.id, answer) for item in those for answer in item.answers]
        ends = dict(zip(answers, found[-1].logprobs, strict=True))
        assert found[0].logprobs.tolist() == [ends[item.id, answer] for item in items for answer in item.answers]
        there = dict(zip(answers, found[-1].features, strict=True))
        assert all(
            np.array_equal(one, there[item.id, answer])
            for one, (item, answer) in zip(
                found[0].features, [(item, answer) for item in items for answer in item.answers], strict=True
            )
        )
    assert len(passes) == 1 and not np.array_equal(found[0].logprobs, found[1].logprobs)
    assert torch.equal(found[0].residuals.layers[1], found[1].residuals.layers[1])


def test_another_model_is_another_key(llama):
    """Weights, configuration (a rotary base is no weight), dtype and threads all tell."""
    import copy

    from locus.models.model import Model

    before = llama.numerics
    other = copy.deepcopy(llama.hf)
    other.config.rope_parameters = {"rope_type": "default", "rope_theta": 5000.0}
    assert Model(other, llama.tokenizer, "x").numerics["weights"] == before["weights"]
    assert Model(other, llama.tokenizer, "x").numerics != before
    assert Model(copy.deepcopy(llama.hf).bfloat16(), llama.tokenizer, "x").numerics["dtype"] != before["dtype"]
    moved = copy.deepcopy(llama.hf)
    moved.lm_head.weight.data[0, 0] += 1
    assert Model(moved, llama.tokenizer, "x").numerics["weights"] != before["weights"]


def test_checks_are_remembered(llama, tmp_path, monkeypatch):
    from locus.engine import checks

    cache = Cache(tmp_path, 10**7)
    text = prompt_format(llama.tokenizer, "qa")
    first = checked(llama, text, cache)
    monkeypatch.setattr(checks, "run_checks", lambda *_: pytest.fail("checked again"))
    bare = [replace(one, rests_on=()) for one in first]
    assert checked(llama, text, cache) == bare == [replace(one, rests_on=()) for one in run_checks(llama, text)]


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("LOCUS_CACHE_GB", wrong)
        with pytest.raises(UserError, match="LOCUS_CACHE_GB"):
            Cache.standard()
    monkeypatch.setenv("LOCUS_CACHE_GB", "0.5")
    assert Cache.standard().limit == 500_000_000


def test_a_second_audit_reads_nothing_again_and_finds_the_same(tmp_path, monkeypatch, llama_folder):
    """Without a cache, with an empty one, and with a full one: the same rows bit for bit, and no base pass the third time."""
    from locus.audit import audit
    from locus.engine import activations
    from locus.plan.config import resolve
    from locus.records.store import Store

    small = {"claims": ("probe",), "train": 8, "validation": 4, "test": 6, "epochs": 1, "random": 4, "alpha": 0.25}
    small |= {"text_passages": 2, "text_tokens": 16, "iti_strengths": (5.0,), "shift_random": 0, "claim_size": 2}
    passes, rows = [], []
    original = activations._base_pass
    monkeypatch.setattr(activations, "_base_pass", lambda *given: (passes.append(1), original(*given)))
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    for number, gigabytes in enumerate(("0", "1", "1")):
        monkeypatch.setenv("LOCUS_CACHE_GB", gigabytes)
        passes.clear()
        audit(resolve("quick", model=llama_folder, **small), tmp_path / f"RUN-{number}")
        assert bool(passes) == (number < 2)
        rows.append(Store(tmp_path / f"RUN-{number}" / "trials.sqlite").dump())
    assert rows[0] == rows[1] == rows[2]
    assert Cache.standard().usage().entries > 10
