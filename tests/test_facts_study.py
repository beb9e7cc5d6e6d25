"""The study of facts: its material holds no leak, it runs and goes on at tiny size, and its statistics are right where known."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from locus.errors import UserError
from locus.models.model import Model
from studies.facts import facts as study
from studies.facts import material, table
from studies.facts.material import RELATIONS, Chosen, Fact, wordings
from studies.facts.paired import Paired, explained, places
from studies.facts.reading import RESTORED

LANDS = "Arland Belor Cormia Dunsk Elvia Fenmark Gorat Hylos".split()
TOWNS = "Ipswell Jorum Kelby Lunt Mirzow Nessa Ostrin Pello".split()
SETTINGS = {**study.SETTINGS, "rounds": 3, "alpha": 0.3, "executor": "serial"}


def write(folder, triples, known=()):
    """Data as they are published."""
    (folder / "facts").mkdir(parents=True, exist_ok=True)
    (folder / "known_1000").mkdir(exist_ok=True)
    lines = [",".join(one) for one in (("subject", "relation", "object", "source"), *triples)]
    (folder / "facts" / "facts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "known_1000" / "known_1000.json").write_text(json.dumps(list(known)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight made-up capitals, in two sources each."""
    both = [(land, "capital", town, source) for land, town in zip(LANDS, TOWNS, strict=True) for source in ("one", "two")]
    return write(tmp_path_factory.mktemp("data"), both)


@pytest.fixture(scope="module")
def knowing():
    """A tiny model that has learned them, in all wordings."""
    asked = [lead + " " + one for lead in wordings()["leads"] for one in wordings()["capital"]]
    texts = [one.replace("{}", land).strip() for one in asked for land in LANDS]
    splitter, words = pre_tokenizers.Whitespace(), {"<pad>": 0}
    for text in [*texts, *TOWNS]:
        for word, _ in splitter.pre_tokenize_str(text):
            words.setdefault(word, len(words))
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = splitter
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2}
    hf = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).float()
    coded = [fast(text, add_special_tokens=False)["input_ids"] for text in texts]
    ends = torch.tensor([len(one) - 1 for one in coded])
    tokens = torch.tensor([one + [0] * (int(ends.max()) + 1 - len(one)) for one in coded])
    targets = torch.tensor([words[town] for _ in asked for town in TOWNS])
    optimizer = torch.optim.Adam(hf.parameters(), lr=0.01)
    for _ in range(60):
        logits = hf(input_ids=tokens).logits[torch.arange(len(tokens)), ends]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
    assert bool((logits.argmax(dim=1) == targets).all()), "it has learned them"
    return Model(hf.eval(), fast, "tiny-knowing")


@pytest.fixture(scope="module")
def done(knowing, data, tmp_path_factory):
    """The study of one fact, then of two, at tiny size."""
    folder = tmp_path_factory.mktemp("study")
    for count in (1, 2):
        one = study.Study(knowing, data, folder / "runs", folder / "rows", {"capital": count}, SETTINGS)
        one.choose()
        one.trace()
        assert one.edit(("mlp",)) == []
    return one


def test_no_two_wordings_are_one_question_to_an_edit_at_the_subject():
    assert set(wordings()) == {"leads", *RELATIONS}
    for relation in RELATIONS:
        before = [one.partition("{}")[0] for one in wordings()[relation]]
        behind_leads = {f"{lead} {one}".strip() for lead in wordings()["leads"] for one in before}
        assert len(before) == 12 and all(before) and len(behind_leads) == 36
        assert all(one.count("{}") == 1 for one in wordings()[relation])


def test_a_fact_is_traced_in_wordings_that_it_is_not_tested_in():
    for seed in range(20):
        one = Chosen(Fact("a", "maker", "Arland", "Jorum"), Fact("b", "maker", "Belor", "Kelby"), seed)
        traced, tested = material.parts(one)
        groups = {row["group"]: row["question"] for row in material.questions(one) if row["id"].endswith("-0")}
        assert len(traced) == material.TRACED and len(tested) == 3
        assert not {wording.replace("{}", "Arland") for wording in traced} & {groups[name] for name in tested}


def test_facts_that_are_unsure_told_or_not_plain_are_left_out(tmp_path):
    pairs = [
        ("Arland", "Jorum"),
        ("Belor", "Kelby"),
        ("Belor", "Lunt"),
        ("Cormia", "Cormes"),
        ("Dun{}sk", "Nessa"),
        ("El[[a", "X"),
    ]
    rows = [(*("capital" if place == 1 else pair[place // 2] for place in range(3)), str(n)) for pair in pairs for n in range(2)]
    folder = write(tmp_path, [*rows, ("Fenmark", "capital", "Ostrin", "alone")])
    assert [(one.subject, one.object) for one in material.facts(folder, "capital")] == [("Arland", "Jorum")]


@pytest.mark.parametrize("row", [1, {}, {"known_id": 3, "relation_id": "P37", "subject": "a", "attribute": None}])
def test_data_that_are_not_as_published_are_refused(tmp_path, row):
    with pytest.raises(UserError, match=r"facts\.csv"):
        material.facts(tmp_path, "capital")
    folder = write(tmp_path, [("a", "capital")], [row])
    with pytest.raises(UserError, match="cells"):
        material.facts(folder, "capital")
    with pytest.raises(UserError, match="row 0, which lacks one"):
        material.facts(folder, "language")


def test_it_finds_traces_and_edits_facts_each_once(done, data):
    facts, traces, edits = (done.read(name) for name in ("facts", "traces", "edits"))
    assert [row["seed"] for row in facts] == [0, 1]
    assert len({one for row in facts for one in (row["fact"], row["partner"])}) == 4
    assert len(traces) == 2 * 2 * 3 and all(len(row["restored"]) == 4 for row in traces)
    assert [row["fact"] for row in edits] == [row["fact"] for row in facts]
    text = "".join(path.read_text() for path in done.rows.iterdir())
    assert not any(name in text for name in (*LANDS, *TOWNS))  # ids alone
    before = {path.name: path.read_bytes() for path in done.rows.iterdir()}
    done.choose()
    done.trace()
    assert done.edit(("mlp",)) == [] and {path.name: path.read_bytes() for path in done.rows.iterdir()} == before


def test_its_numbers_are_those_of_the_model(done):
    """A subject of one token: with the stream that enters the first layer all comes back, and edits everywhere move the fact."""
    for row in done.read("traces"):
        if row["what"] == "resid":
            assert row["restored"][0] == pytest.approx(row["whole"], abs=1e-3)
            assert row["whole"] > study.LEAST or row["corruption"] != study.FIRST
    for row in done.read("edits"):
        assert row["says_base"] < 0.5 and row["says_base"] <= row["says_ceiling"] and row["gain_ceiling"] > 0
        assert row["claim"] > 0 and len(row["moved"]) == 4


def test_rows_of_other_data_are_refused(done, tmp_path):
    others = [(land, "capital", town, source) for land, town in zip(LANDS, TOWNS[::-1], strict=True) for source in ("one", "two")]
    with pytest.raises(UserError, match=r"the data that facts\.jsonl was chosen from"):
        material.chosen(write(tmp_path, others), done.read("facts"))


def planted(folder, count=8, layers=10):
    """Rows of facts that are best edited where they are traced, and of one with a number that is not defined."""
    rng, traces, edits = np.random.default_rng(0), [], []
    for number in range(count):
        profile, fact = rng.permutation(layers) / 10, f"facts:{number}"
        for corruption in (study.FIRST, "Gaussian noise"):
            effects = {"whole": 2.0, "restored": list(2 * profile)}
            traces += [{"fact": fact, "corruption": corruption, "what": what, **effects} for what in RESTORED]
        for kind in study.KINDS:
            row = {"fact": fact, "relation": "maker" if number % 2 else "capital", "kind": kind, "target": 4.0, "settled": 9}
            row |= {"claim": study.traced_layer(list(profile)), "gain": list(4 * profile), "says": list(profile)}
            row |= {"moved": [0.5] * layers if number else [None] * layers}
            ends = {f"{name}_{end}": 1.0 for name in ("gain", "says", "moved") for end in ("ceiling", "complement")}
            edits.append({**row, **ends})
    folder.mkdir()
    for name, rows in (("traces", traces), ("edits", edits)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_tables_and_the_figure_follow_from_the_rows(tmp_path, monkeypatch):
    planted(tmp_path / "rows")
    monkeypatch.setattr("sys.argv", ["table", "--rows", str(tmp_path / "rows"), "--to", str(tmp_path)])
    table.main()
    page = (tmp_path / "facts.md").read_text()
    assert "Facts: capital 4, maker 4; left out, since a number was undefined: mlp 1, resid 1." in page
    assert page.count("| an MLP | replaced | 7 | 1.00 ") == 1 and "nan" not in page
    assert "| the stream | neighbours, nats | 0.50 " in page and "63 of 70" in page
    assert (tmp_path / "facts.png").stat().st_size > 10_000
    monkeypatch.setattr("sys.argv", ["table", "--rows", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match=r"traces\.jsonl and edits\.jsonl with rows"):
        table.main()


def test_a_tracing_that_knows_its_fact_is_told_from_one_that_knows_the_layer():
    rng = np.random.default_rng(0)
    gain, relations = rng.normal(size=(12, 30)), ("a",) * 12
    knows = Paired(2 * gain, gain, relations)
    assert knows.own == pytest.approx(np.ones(12)) and knows.beyond.mean() > 0.8
    assert explained(knows).added == pytest.approx(1 - explained(knows).layer) and explained(knows).p < 0.01
    profile = np.tile(np.arange(30.0), (12, 1))
    alike = Paired(profile, profile + 0.1 * gain, relations)
    assert alike.own.mean() > 0.99 and alike.beyond == pytest.approx(np.zeros(12)) and explained(alike).added == 0
    flat = Paired(np.vstack([np.zeros(30), gain[1:]]), gain, relations)
    assert np.isnan(flat.own[0]) and np.isfinite(flat.beyond[1:]).all()


def test_what_tracing_adds_is_what_least_squares_say():
    rng = np.random.default_rng(1)
    restored = rng.normal(size=(9, 5))
    gain = 0.4 * restored + np.arange(5) + rng.normal(size=(9, 5))
    layers = np.tile(np.eye(5), (9, 1))

    def share(columns):
        fitted = columns @ np.linalg.lstsq(columns, gain.ravel(), rcond=None)[0]
        return 1 - ((gain.ravel() - fitted) ** 2).sum() / ((gain - gain.mean()) ** 2).sum()

    one = explained(Paired(restored, gain, ("a",) * 9))
    assert one.layer == pytest.approx(share(layers))
    assert one.added == pytest.approx(share(np.column_stack([layers, restored.ravel()])) - share(layers))
    assert one.tracing == pytest.approx(share(np.column_stack([np.ones(45), restored.ravel()])))
    assert one.interval[0] < one.added < one.interval[1]


def test_the_traced_layer_is_held_against_the_others():
    found = places(np.array([[1.0, 5.0, 2.0, 3.0], [4.0, 0.0, 4.0, 1.0]]), [1, 0])
    assert found.traced.tolist() == [5, 4] and found.best.tolist() == [3, 4] and found.middle.tolist() == [2, 1]
    assert found.others == pytest.approx([2, 5 / 3]) and found.as_good == pytest.approx([0, 1 / 3])
    assert study.traced_layer([9.0, 1.0, 3.0, 3.0]) == 2  # layer 0 does not count
    assert study.traced_layer([9.0, 9.0, 9.0, 1.0, 2.0], first=3) == 4


def test_what_is_asked_for_is_checked():
    assert study.counts("capital=2,maker=1") == {"capital": 2, "maker": 1} and study.counts(None) == RELATIONS
    for wrong in ("capital", "capital=0", "moon=3", "capital=two"):
        with pytest.raises(UserError, match="facts by relation"):
            study.counts(wrong)
