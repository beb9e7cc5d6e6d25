"""What is counted: by hand, against PyTorch's own counter in every family, and as a run's record has it."""

import json
import sqlite3
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from locus import behaviours as datasets
from locus.behaviours.prompts import TokenSequence, prompt_format
from locus.conclude.cost import NOT_COUNTED, cost_line, summary
from locus.edits import Edit, Rank1
from locus.engine import cost
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.cost import Sizes, Tally, Work
from locus.engine.forward import edited, prepare_row, sequence_logprobs
from locus.engine.generate import Speech, generate
from locus.engine.train import TrainingRecipe, train
from locus.engine.training_set import TrainingSet
from locus.engine.trie import TokenTrie, build_trie
from locus.metrics.choice import score
from locus.metrics.drift import drift
from locus.models.shortcuts import SPEECH
from locus.plan.config import resolve
from locus.plan.forecast import Forecast
from locus.plan.reading import read_plan
from locus.plan.trials import Trial
from locus.records.cost import Cost, Seconds
from locus.records.plan import ItemRecord, ItemsRecord, PlanRecord, PromptRecord, TrialRecord
from locus.records.store import Store
from locus.records.tables import MIGRATIONS
from locus.report import receipt
from locus.report.page import write as write_page
from locus.report.verify import verify_run
from locus.sites.site import Location
from tests.families import tiny
from tests.test_store import SPEC, result

# Nodes 1, 2, 3 and 4, 5: both sequences begin with 1, 2. Depths 0, 1, 2, 2, 3, so that 1 + 2 + 3 + 3 + 4 = 13 pairs see one
# another; scored are 3 and 4 after node 2, and 5 after node 4: two positions.
TWO = TokenTrie([TokenSequence((1, 2, 3), 2), TokenSequence((1, 2, 4, 5), 2)])


class Anywhere:
    """Stands for the counter's tracker of modules, which does not bear a module that is called inside an autograd function."""

    parents = ("Global",)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Products(FlopCounterMode):
    """PyTorch's counter: multiply-adds in products with matrices, and in batched products (attention and the edits' vectors)."""

    def __init__(self):
        super().__init__(display=False)
        self.mod_tracker = Anywhere()

    def of(self, *names):
        counts = self.get_flop_counts()["Global"]  # flops: two a multiply-add
        assert {str(one) for one in counts} <= {"aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm"}
        return sum(count for one, count in counts.items() if str(one) in names) // 2

    @property
    def matrices(self):
        return self.of("aten.mm", "aten.addmm")

    @property
    def batched(self):
        return self.of("aten.bmm", "aten.baddbmm")


def laid(model):
    row = TWO.row(range(2))
    return row, prepare_row(model, row, TWO.targets(row, range(2)))


def unattended(work):
    return replace(work, pairs=0)


def total(tally, kind):
    return sum((one.get(kind, Work()) for one in tally.by_edit), Work())


def test_sizes_and_counts_by_hand(llama):
    # Width 32, 4 heads of 12 with 2 for keys and values, MLP 48, 384 tokens. Queries 32 * 48, keys and values 32 * 24 each,
    # output 48 * 32: 4,608; gate, up and down 3 * 32 * 48 = 4,608. After the head outputs: 1,536 + 4,608.
    sizes = Sizes.of(llama)
    assert sizes == Sizes(n_layers=3, layer=9216, after=6144, mlp=4608, features=48, head=12288)
    row, _ = laid(llama)
    there = cost.forward(row, 2, scored=2, reused=1)
    assert there == Work(tokens=5, layers=10, tails=0, pairs=2 * 2 * 13, scored=2, reused=5)
    assert there.macs(sizes) == 10 * 9216 + 52 * 48 + 2 * 12288 == 119232
    # Of five tokens three predict nothing: in the last layer their MLP is left out, there and back.
    assert cost.forward(row, 2, predictors=2) == Work(tokens=5, layers=10, pairs=52, bare=3)
    assert cost.forward(row, 2, predictors=2).macs(sizes) == 10 * 9216 - 3 * 4608 + 52 * 48
    # One whole layer, four products a pair in it; of the first edited layer, what follows the head outputs.
    back = cost.backward(row, 2, scored=2)
    assert back == Work(tokens=0, layers=5, tails=5, pairs=4 * 13, scored=2, bare=3)
    assert back.macs(sizes) == 5 * 9216 + 5 * 6144 - 3 * 4608 + 52 * 48 + 2 * 12288 == 90048
    assert there.counts(sizes)["spared"] == 5 * 9216
    # Positions 3, 4 and 5 see 4 + 5 + 6 tokens.
    assert cost.continued(3, 3, n_layers=3, scored=3) == Work(tokens=3, layers=9, pairs=2 * 3 * 15, scored=3)


@pytest.mark.parametrize("first", [0, 1])
def test_training_is_counted_as_pytorch_counts_it_in_every_family(model, first):
    """Equal to the last unit, with two differences by definition: kernels multiply all 5 * 5 pairs, of which 13 see one another;
    and the edit's own vectors are left out: in each of two layers <a, o> and its product with b (2), their gradients (3), and
    in the second layer that of o (1), each 5 * features.
    """
    row, prepared = laid(model)
    residual_cache, tally = base_pass(model, TWO, layers=[first]).residuals, Tally()
    bank = Bank([Rank1(model.layout, Location.parse(f"{first}.1,2.0"))])
    with Products() as counter, sdpa_kernel(SDPBackend.MATH), bank.attach(model) as bank_state:
        hidden = edited(model, prepared, bank, bank_state, residual_cache, lambda edits, work: tally.add("train", edits, work))
        sequence_logprobs(model, hidden, prepared.targets).sum().backward()
    forward = tally.by_edit[0]["train"] + Work(scored=2)
    backward, sizes = cost.backward(row, 3 - first, scored=2), Sizes.of(model)
    assert unattended(forward).macs(sizes) + unattended(backward).macs(sizes) == counter.matrices
    assert (
        13 * counter.batched == 25 * (forward.pairs + backward.pairs) * sizes.features + 13 * (2 + 3 + 2 + 4) * 5 * sizes.features
    )
    assert forward.reused == 5 * first


def test_an_edit_of_the_last_layer_is_counted_as_pytorch_counts_it_in_every_family(model):
    """The way back is one layer's: through its MLP where a token is predicted, and past it where the MLP runs parallel."""
    row, prepared = laid(model)
    tally, bank = Tally(), Bank([Rank1(model.layout, Location.parse("2.0"))])
    with Products() as counter, sdpa_kernel(SDPBackend.MATH), bank.attach(model) as bank_state:
        hidden = edited(model, prepared, bank, bank_state, None, lambda edits, work: tally.add("train", edits, work))
        sequence_logprobs(model, hidden, prepared.targets).sum().backward()
    work, sizes = unattended(tally.by_edit[0]["train"] + Work(scored=2)), Sizes.of(model)
    back = unattended(cost.backward(row, 1, 2, model.parallel))
    assert work.macs(sizes) + back.macs(sizes) == counter.matrices


def test_edits_are_charged_their_own_rows_and_share_what_they_have_in_common(llama):
    """Edits at layers 2, 1 and 2, nothing held: the base row runs through layer 0 for all, and through layer 1 for two."""
    prepared, tally, places = laid(llama)[1], Tally(3), ["2.0", "1.1", "2.3"]
    edits = [Rank1(llama.layout, Location.parse(place)).frozen({}) for place in places]
    with Products() as counter:
        score(llama, [prepared], edits, 2, tally=tally)
    work = [one["score"] for one in tally.by_edit]
    assert [one.layers for one in work] == pytest.approx([5 * (1 + 1 / 3 + 1 / 2), 5 * (2 + 1 / 3), 5 * (1 + 1 / 3 + 1 / 2)])
    assert [one.tokens for one in work] == [5, 5, 5] and not any(one.reused for one in work)
    assert unattended(total(tally, "score")).macs(Sizes.of(llama)) == pytest.approx(counter.matrices, rel=1e-12)
    held, reused = base_pass(llama, TWO, layers=[2]).residuals, Tally(3)
    with Products() as counter:
        score(llama, [prepared], edits, 2, residual_cache=held, tally=reused)
    assert [one["score"].layers for one in reused.by_edit] == [5, 15, 5]  # layer 0 was run for the one that begins in 1
    assert [one["score"].reused for one in reused.by_edit] == [10, 0, 10]
    assert unattended(total(reused, "score")).macs(Sizes.of(llama)) == counter.matrices


def test_text_is_counted_with_its_share_of_the_reference(llama):
    prepared, tally = laid(llama)[1], Tally(2)
    edits = [Rank1(llama.layout, Location.parse(place)).frozen({}) for place in ("0.0", "2.3")]
    held = base_pass(llama, TWO, layers=[0, 2]).residuals
    with Products() as counter:
        drift(llama, [prepared], edits, residual_cache=held, tally=tally)
    assert unattended(total(tally, "text")).macs(Sizes.of(llama)) == counter.matrices  # the base model runs as well
    assert [one["text"].scored for one in tally.by_edit] == [4.5, 4.5]  # 3 tokens each, and half of the reference's 3


@pytest.mark.parametrize("positions", ["all", "answer"])
def test_speech_is_counted_once_a_token(llama, positions, monkeypatch):
    """Two edits that act on the answer alone share the prompt; of a prompt of P tokens and n spoken, P - 1 + n are run."""
    monkeypatch.setattr(llama, "checked", True)  # else it is first seen how it can speak
    monkeypatch.setattr(llama, "speaks", (True, True))
    prompt, text = "Q: Who?\nA:", prompt_format(llama.tokenizer, "qa")
    edits = [Rank1(llama.layout, Location.parse(place)).frozen({}) for place in ("0.0", "2.3")]
    for edit in edits:
        edit.positions = positions
    tally, sizes = Tally(2), Sizes.of(llama)
    with Products() as counter, sdpa_kernel(SDPBackend.MATH):
        said = generate(llama, [prompt], edits, text, Speech(6), tally=tally)
    length = len(llama.tokenizer(prompt)["input_ids"])
    spoken = [len(one[0].tokens) for one in said]
    apart = 2 if positions == "answer" else 1
    assert [one["speak"].tokens for one in tally.by_edit] == [(length - 1) / apart + count for count in spoken]
    assert [one["speak"].scored for one in tally.by_edit] == spoken
    if spoken[0] == spoken[1]:  # else one that has finished is run on beside the other
        assert unattended(total(tally, "speak")).macs(sizes) == counter.matrices


def test_counting_changes_no_number(llama, items):
    trie = build_trie(llama.tokenizer, prompt_format(llama.tokenizer, "qa"), items)
    found, recipe = base_pass(llama, trie, layers=[1]), TrainingRecipe(lr=1e-2, epochs=1, batch=1)
    fits = []
    for tally in (None, Tally(2)):
        edits = [Rank1(llama.layout, Location.parse(place), seed=2) for place in ("1.0", "1.2")]
        fits.append(train(TrainingSet(llama, trie, items, found.logprobs, found.residuals), edits, [recipe] * 2, tally=tally))
    for plain, counted in zip(*fits, strict=True):
        assert torch.equal(torch.from_numpy(plain.losses), torch.from_numpy(counted.losses))
        assert torch.equal(plain.edit.terms(1).write, counted.edit.terms(1).write)
    # Question by question, each tree is run once, however many pairs it holds.
    # Last tokens are left out: they predict nothing.
    trees = sum(len(trie.row(trie.sequences_of([owner]), ends=False)) for owner in range(len(items)))
    assert [one["train"].tokens for one in tally.by_edit] == [trees] * 2


def test_a_run_records_what_each_trial_took(small_run):
    store = Store(small_run / "trials.sqlite")
    counts, trials = store.costs(), {row.id: row for row in store.trials()}
    store.close()
    assert counts.keys() == trials.keys()
    kinds = {trials[one].role: set(work) for one, work in counts.items()}
    assert (
        kinds["base"] == {"read"}
        and kinds["claim"] == {"train", "gradient", "score", "text"}
        and kinds["shift"] == {"score", "text"}
    )
    found = json.loads((small_run / "verdict.json").read_text())
    took = found["cost"]
    assert took["total"]["macs"] == sum(one["macs"] for work in counts.values() for one in work.values())
    assert took["total"]["macs"] == pytest.approx(sum(one["macs"] for one in took["by_work"].values()))
    assert took["total"]["trials"] == took["total"]["counted"] == sum(one["trials"] for one in took["by_role"].values())
    assert took["reason"] == "" and took["macs_per_second"] > 0 and found["seconds"]["trials"] == took["total"]["seconds"]
    # Every edit of the ceiling begins in layer 0, the complement of 0.1,2.3 does so, too; the claim's first layer is 0.
    roles = {name: one["macs"] / one["trials"] for name, one in took["by_role"].items()}
    assert roles["ceiling"] == roles["complement"] == roles["claim"] > roles["shift"] > 0
    line = cost_line(Seconds.parse(found["seconds"]), Cost.parse(took))
    assert "for this command" in line and "added up over processes" in line and "multiply-adds" in line
    assert line in (small_run / "report.html").read_text()


def test_a_plan_tells_what_its_trials_will_take(small_run, llama_folder):
    """The forecast looks at no weights and no result, and equals what the run counted."""
    plan = read_plan(small_run)
    told = Forecast(plan, datasets.load(plan.config["data"]), tiny("llama")).trials()
    store = Store(small_run / "trials.sqlite")
    counts = store.costs()
    store.close()
    sizes = Sizes.of(tiny("llama"))
    for trial, works in counts.items():
        assert works.keys() == told[trial].keys()
        for kind, work in works.items():
            if kind != "read" or work["macs"]:  # what another audit has left in the cache was not read again
                assert told[trial][kind].counts(sizes) == pytest.approx(work), (trial, kind)


@pytest.mark.parametrize("whole", [False, True], ids=["side by side", "one after the other"])
@pytest.mark.parametrize("edit", ["none", "shift", "rank1"])
def test_speech_is_foretold_from_what_was_said(llama, items, edit, whole, monkeypatch):
    if whole:
        monkeypatch.setitem(llama.off, SPEECH, "to see what it costs")
    text, places = prompt_format(llama.tokenizer, "qa"), ("0.0", "2.3") if edit == "shift" else ("1.0", "2.3")
    edits = {
        "none": [],
        "shift": [Edit("shift", Location.parse(place), llama.layout, {}, "answer") for place in places],
        "rank1": [Rank1(llama.layout, Location.parse(place)) for place in places],
    }[edit]
    tally = Tally(2)
    said = generate(llama, [text.prompt(item.question) for item in items], edits, text, Speech(6), tally=tally)
    asked = tuple(ItemRecord(id=item.id, group=item.group, question=item.question) for item in items)
    lengths = [{item.id: len(one.tokens) for item, one in zip(items, texts, strict=True)} for texts in said]
    trials = [Trial("claim", place, "claim", Location.parse(place), edit, "0" * 64) for place in places[: len(said)]]
    bank = [TrialRecord.parse(trial.to_dict() | {"id": trial.id}) for trial in trials]
    plan = PlanRecord.model_construct(
        config={**resolve("quick").model_dump(mode="json"), "judge": "blind", "text_passages": 0},
        prompt=PromptRecord.parse(text.record),
        items=ItemsRecord(train=asked, validation=asked, test=asked),
        trials=(),
        claims=(),
    )
    forecast = Forecast(plan, datasets.Dataset("x", items), llama, {one.id: own for one, own in zip(bank, lengths, strict=True)})
    for one, counted in zip(bank, tally.by_edit, strict=False):
        told = forecast._speech(one, bank)
        assert vars(told) == pytest.approx(vars(counted["speak"]))


def older(run):
    """Make a run what it would be had an earlier version written it: no table of costs, no costs in the verdict."""
    with sqlite3.connect(run / "trials.sqlite") as db:
        db.execute("DROP TABLE costs")
        db.execute("PRAGMA user_version = 1")
    found = json.loads((run / "verdict.json").read_text())
    del found["cost"]
    (run / "verdict.json").write_text(json.dumps(found))
    store = Store(run / "trials.sqlite")
    receipt.write(run, store, sign=False)
    store.close()


def test_an_older_run_is_read_reported_and_verified_as_it_is(run_copy):
    older(run_copy)
    assert verify_run(run_copy).kind == "run"
    write_page(run_copy, figures=False, sign=False)
    assert NOT_COUNTED in (run_copy / "report.html").read_text()
    assert verify_run(run_copy).kind == "run"  # to read it changed nothing of it
    (run_copy / "verdict.json").unlink()
    write_page(run_copy, figures=False, sign=False)
    assert NOT_COUNTED in (run_copy / "report.html").read_text()


def test_an_older_store_goes_on_and_what_was_not_counted_stays_unknown(tmp_path):
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        row = ("old", "claim", "", "", json.dumps(SPEC.to_json()), "done", 2.0, 1, "", 0.0, "{}")
        db.execute(f"INSERT INTO trials VALUES ({', '.join('?' * len(row))})", row)
    store = Store(path)
    assert store.costs() == {} and store.db.execute("PRAGMA user_version").fetchone() == (1,)
    nothing = summary({row.id: row for row in store.trials()}, store.counts())
    assert nothing.total.to_json() == {"trials": 1, "counted": 0, "seconds": 2.0, "tokens": None, "macs": None, "spared": None}
    assert nothing.macs_per_second is None and nothing.reason == NOT_COUNTED
    sizes = Sizes(3, 9216, 6144, 4608, 48, 12288)
    new = result("new")
    new.cost = {"score": Work(tokens=5, layers=10).counts(sizes)}
    store.commit([new])
    half = summary({row.id: row for row in store.trials()}, store.counts())
    assert half.total.to_json() == {"trials": 2, "counted": 1, "seconds": 4.0, "tokens": 5, "macs": 92160, "spared": 0}
    assert half.macs_per_second == 92160 / 2.0 and half.reason
    assert "counted for 1 of 2 trials" in cost_line(Seconds(trials=4.0), half)


def test_a_store_from_before_mlps_were_left_out_is_read_as_it_is_and_goes_on(tmp_path):
    path, sizes = tmp_path / "x.sqlite", Sizes(3, 9216, 6144, 4608, 48, 12288)
    with sqlite3.connect(path) as db:
        db.executescript(f"{MIGRATIONS[0]} {MIGRATIONS[1]} PRAGMA user_version = 2;")
        db.execute("INSERT INTO costs VALUES ('old', 'score', 5, 10, 0, 0, 0, 0, 92160, 0)")
    store = Store(path)
    before = {"tokens": 5, "layers": 10, "tails": 0, "pairs": 0, "scored": 0, "reused": 0, "macs": 92160, "spared": 0}
    assert store.costs() == {"old": {"score": before}}
    new = result("new")
    new.cost = {"score": Work(tokens=5, layers=10, bare=3).counts(sizes)}
    store.commit([new])
    assert store.costs()["old"]["score"] == before | {"bare": 0}
    assert store.costs()["new"]["score"] == before | {"bare": 3, "macs": 92160 - 3 * 4608}
