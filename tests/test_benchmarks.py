"""The benchmarks' own arithmetic: the counted floor against the products torch does, straight lines and sums by hand."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import __main__ as benchmarks
from benchmarks import floor, gpu, gpu_page, material, ours, report
from benchmarks.audits import at_rate, counted_up, sample_of
from benchmarks.measure import furthest, slope
from locus.behaviours.items import Item
from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.forward import edited, prepare_row, sequence_logprobs
from locus.engine.trie import build_trie
from locus.plan.trials import Trial
from locus.sites.site import Location

ONE = (Item("a", "Who?", ("Me",), ("You", "They"), "Me", "a"),)


class Products(TorchDispatchMode):
    """Counts the multiply-adds of matrix products; attention is reckoned apart (the mask hides half of what would be counted)."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.mm.default:
            self.total += args[0].shape[0] * args[0].shape[1] * args[1].shape[1]
        if function is torch.ops.aten.addmm.default:
            self.total += args[1].shape[0] * args[1].shape[1] * args[2].shape[1]
        return function(*args, **(kwargs or {}))


@pytest.fixture
def laid(llama):
    trie = build_trie(llama.tokenizer, prompt_format(llama.tokenizer, "qa"), ONE)
    row = trie.row(range(3), ends=False)
    return llama, trie, prepare_row(llama, row, trie.targets(row, range(3)))


def test_the_base_pass_is_counted_as_it_runs(laid):
    model, trie, _ = laid
    with Products() as counter:
        base_pass(model, trie)
    # Every token sees its ancestors and itself, twice multiplied in each layer; last tokens are not read.
    seen = int((trie.row(range(3), ends=False).positions + 1).sum())
    assert floor.base_macs(model, trie) == counter.total + 3 * 2 * model.layout.d_in(0) * seen


@pytest.mark.parametrize("first", [0, 2])
def test_training_is_counted_as_it_runs(laid, first):
    """Forward from the first edited layer, backward to its head outputs: queries, keys and values of it are not gone through."""
    model, trie, prepared = laid
    residual_cache = base_pass(model, trie, layers=[first]).residuals
    bank = Bank([Rank1(model.layout, Location.parse(f"{first}.1"))])
    with Products() as counter, bank.attach(model) as bank_state:
        hidden = edited(model, prepared, bank, bank_state, residual_cache)
        sequence_logprobs(model, hidden, prepared.targets).sum().backward()
    attention = model.layout.d_in(0) * int(prepared.row.sees.sum())
    layers = 3 - first
    mine = floor.edit_macs(model, prepared.row, prepared.targets, first, backward=True)
    assert mine == counter.total + (2 * layers + 4 * (layers - 1)) * attention


def test_the_rate_is_a_rate():
    """A product of known size cannot take less time than the measured rate allows, give or take what a busy machine does."""
    assert 1e8 < floor.matrix_rate(0.1) < 1e14


def test_straight_lines_and_sums_by_hand():
    assert slope([1, 2, 3], [5, 7, 9]) == pytest.approx((2, 3, 1))
    # mean 3, slope 0.5 through (2, 3): residuals 0.5, -1, 0.5 of y = 3, 2, 4; 1 - 1.5 / 2
    assert slope([1, 2, 3], [3, 2, 4]) == pytest.approx((0.5, 2, 0.25))
    assert counted_up({"a": [1.0, 3.0], "b": [5.0]}, {"a": 10, "b": 2}) == 30
    # 12 s for 4 pairs at 50: at 75 it would have been 8 s, two a pair
    assert at_rate({"seconds": 12.0, "pairs": 4, "rate": 50.0}, "pairs", 75.0) == 2
    assert furthest([1.0, -200.0], [1.5, -202.0]) == pytest.approx(0.5 / 1.5)
    with pytest.raises(ValueError, match="2 values, the other 1"):
        furthest([1.0, 2.0], [1.0])


def test_the_sampled_bank_is_of_its_classes_mean_depth():
    def bank(role, *layers):
        return [Trial(role, "x", "", Location.parse(f"{layer}.0"), "rank1", "") for layer in layers]

    banks = [bank("random", 0, 1), bank("random", 4, 6), bank("random", 9, 10), bank("ceiling", 0)]
    assert sample_of(banks) == [banks[1], banks[3]]  # 30 / 6 = 5


def test_a_page_is_made_of_whatever_tables_are_there(tmp_path):
    aim = {"what": "times as fast", "aim": 30, "measured": 12.0, "reached": False}
    check = {"what": "losses", "n": 9, "range": 3.0, "apart": 1e-6, "allowed": 1e-3, "same": True}
    table = {"title": "T", "columns": ["a"], "rows": [["1"]], "aims": [aim], "checks": [check], "notes": ["n"]}
    found = [{"seconds": 1.0, "rate": 1e10, "threads": 1, "peak_mb": 5.0, "check": [1.0]}]
    report.save(3, {**table, "found": found}, {"model": "m", "data": "d", "size": "sample"}, tmp_path / "results")
    report.render(tmp_path / "results", tmp_path / "RESULTS.md")
    page = (tmp_path / "RESULTS.md").read_text()
    assert "## 3. T" in page and "NOT reached: times as fast 12, aim 30" in page and "the same on both sides: losses" in page
    assert "check" not in json.loads((tmp_path / "results" / "table-3.json").read_text())["raw"][0]
    assert "10 billion multiply-adds" in page and not list((tmp_path / "results").glob(".*"))


def test_both_sides_start_the_same_edit(llama):
    from benchmarks.ours import _started

    layout = llama.layout
    whole = _started(llama, "1", "free", 3)
    assert whole.first_layer == 1 and set(whole.location.layers) == {1} and len(whole.location) == layout.n_heads
    assert torch.equal(whole.terms(1).read, _started(llama, "1,2", "free", 3).terms(1).read)
    assert _started(llama, "0.2,2.1", "heads", 0).location.names == ["0.2", "2.1"]


def test_a_banks_tokens_count_once_for_every_edit():
    one, three = (ours.banked("random:tiny", "misconceptions", 3, edits) for edits in (1, 3))
    # Three questions are one step of up to four: every token but an answer's last is in its row.
    trie = material.trie_of(material.frozen("random:tiny"), material.questions("misconceptions", 3))
    tokens = len({int(node) for path in trie.paths for node in path[:-1]})
    assert one["trained"] * one["seconds"] == pytest.approx(tokens)
    assert three["trained"] * three["seconds"] == pytest.approx(3 * tokens)
    assert three["macs"] == 3 * one["macs"] > 0 and three["scored"] > 0
    assert three["scoring_macs"] == pytest.approx(3 * one["scoring_macs"]) and 0 < one["scoring_macs"] < one["macs"]


def parameters_of(shape):
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(LlamaConfig(**shape))
    return sum(one.numel() for one in hf.parameters())


def test_the_large_llamas_have_the_sizes_they_are_named_for():
    # A layer: queries and output 2 x 2048^2, keys and values 2 x 2048 x 512, MLP 3 x 2048 x 8192, 2 norms
    layer = 2 * 2048**2 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048
    assert parameters_of(material.ITS_SHAPE) == 128_256 * 2048 + 16 * layer + 2048
    assert parameters_of(material.SHAPES["random:8b"]) == 8_030_261_248  # as its model card counts Llama-3.1-8B


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tables_of_a_gpu_are_refused_without_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["benchmarks", "1", "--device", "cuda", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        benchmarks.main()
    assert ended.value.code == 2 and "needs a GPU" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_numbers_all_tables_are_run_and_what_is_there_is_kept(monkeypatch, capsys):
    """As `make bench` calls it; the project's own tables are all there, or else this fails at once instead of running them."""

    def missing(_):
        raise RuntimeError("not there")

    monkeypatch.setattr(benchmarks, "TABLES", dict.fromkeys(benchmarks.TABLES, missing))
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    assert benchmarks.main() == 0
    assert capsys.readouterr().out.count("there already") == len(benchmarks.TABLES)


def test_a_table_that_does_not_exist_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "1", "11"])
    with pytest.raises(SystemExit) as ended:
        benchmarks.main()
    assert ended.value.code == 2 and "not [11]" in capsys.readouterr().err


def test_the_script_for_a_gpu_runs_all_its_paths_on_a_cpu(tmp_path):
    """As it is called; every number that the page shows is there, and the page shows it."""
    out, root = tmp_path / "gpu.json", Path(__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks.gpu", "--cpu", "--seconds", "800", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(out.read_text())
    assert {one["standing"] for one in content["parts"]} == {gpu.DONE}
    found = {one["part"]: one["found"] for one in content["parts"]}
    for kind in ("bfloat16", "float32"):
        checks = found[f"checks, {kind}"][kind]
        assert all(one["passed"] for one in checks["checks"]) and not checks["off"] and len(checks["checks"]) > 10
    assert found["alone"]["banks"]["difference"] < 1e-4
    assert found["speech"]["generate"]["alike"] == 1 and found["speech"]["locus"]["tokens"] > 0
    assert found["newton"]["linearisation"]["answers"] == found["newton"]["linearisation"]["of"]
    assert found["newton"]["round"]["left"] < 1, "the first step lowers the loss"
    largest = found["largest"]["largest"]
    used = largest["parameters"] * 4 + largest["layers"] * largest["bytes"]["training"] / 3
    layer = largest["bytes"]["a layer's weights"] + largest["bytes"]["training"] / 3
    assert largest["reckoned"] and used <= largest["memory"] < used + layer
    page = gpu_page.table(content)
    assert "FAIL" not in done.stdout and f"{largest['layers']} layers" in page and gpu_page.NOT not in page


def test_a_part_is_ended_at_its_deadline_and_what_it_found_is_kept(tmp_path):
    def slow(model, size):
        yield "first", {"number": 1}
        time.sleep(600)
        yield "second", {"number": 2}

    def broken(model, size):
        yield "first", {"number": 3}
        raise ValueError("no more")

    def killed(model, size):
        yield "first", {"number": 4}
        os._exit(7)

    parts = [gpu.Part(work.__name__, "any", work, 2) for work in (slow, broken, killed)]
    parts.append(gpu.Part("late", "any", broken, 1e6))
    setting = {"seconds": 600, "banks": [1], "models": ["any"]}
    content = gpu.measure(parts, None, setting, tmp_path / "gpu.json", lambda text: None)
    assert json.loads((tmp_path / "gpu.json").read_text()) == content
    assert [one["found"] for one in content["parts"]] == [*({"first": {"number": number}} for number in (1, 3, 4)), {}]
    standings = [one["standing"] for one in content["parts"]]
    assert standings[:2] == ["ended after 2 s", "failed: ValueError: no more"] and standings[2].endswith("status 7")
    assert standings[3].startswith("left out")
    assert "- late, any: left out" in gpu_page.table(content)


def test_the_page_shows_what_was_measured_on_a_gpu_or_that_nothing_was():
    text = gpu_page.PAGE.read_text()
    assert text == gpu_page.page(text, gpu_page.kept())
    rows = [line for line in gpu_page.table(None).splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 15 and all(row.count(gpu_page.NOT) == 2 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_script_for_a_gpu_asks_for_one(capsys, monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "PYTORCH_NVML_BASED_CUDA_CHECK", "MALLOC_ARENA_MAX", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))  # what it sets ends with this test
    for arguments in (["--out", str(tmp_path / "x")], ["--cpu"]):
        with pytest.raises(SystemExit) as ended:
            gpu.main(arguments)
        assert ended.value.code == 2 and not list(tmp_path.iterdir())
    assert "needs --out" in capsys.readouterr().err
