"""The front door: open models and questions are audited as named ones are, and nobody's model is changed."""

import copy
import html
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

import locus
from locus.conclude.diagnosis import next_steps
from locus.door.showing import bar
from locus.errors import UserError
from locus.models.model import Model
from locus.plan.preconditions import FewQuestions
from tests.families import FAMILIES, QUESTIONS, byte_tokenizer, configuration
from tests.small_run import BREAKOUT, SMALL, poison

ROWS = [{"question": f"{n} + 1 =", "wanted": [str(n + 1)], "unwanted": [str(n), str(n + 2)]} for n in range(30)]
ONE = {**SMALL, "progress": False, "sign": False}


def fresh(family="llama"):
    """A tiny model of transformers, as somebody has it in training."""
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(configuration(family)).float().train()


def state(hf):
    """All that must be as it was: weights and their places in memory, modes, gradients, hooks, forwards, attention."""
    return {
        "weights": {
            name: (one.data_ptr(), one.detach().clone().view(torch.uint8).tolist()) for name, one in hf.state_dict().items()
        },
        "modes": [module.training for module in hf.modules()],
        "gradients": [one.requires_grad for one in hf.parameters()],
        "hooks": [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in hf.modules()],
        "forwards": ["forward" in vars(module) for module in hf.modules()],
        "attention": hf.config._attn_implementation,
        "grad": [one.grad for one in hf.parameters()],
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrapped_model_is_the_same_model_and_theirs_is_not_changed(family, tmp_path):
    hf = fresh(family)
    before = state(hf)
    model = locus.wrap(hf, byte_tokenizer(), name="mine")
    assert next(model.hf.parameters()).data_ptr() == next(hf.parameters()).data_ptr()  # a view, no copy
    assert model.name == "memory:mine" and not model.hf.training
    hf.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert model.fingerprint == locus.load(str(tmp_path)).fingerprint
    assert state(hf) == before


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A model in memory and questions in memory, audited; the model as it was before, and the run."""
    hf = fresh()
    before = state(hf)
    model = locus.wrap(hf, byte_tokenizer(), name="mine")
    out = tmp_path_factory.mktemp("door") / "RUN"
    run = locus.audit(model, ROWS, "0.1,2.3", out=out, **{**ONE, "claims": None})
    return hf, before, model, run


def test_an_audit_of_what_is_in_memory_leaves_the_model_as_it_was(audited):
    hf, before, _, run = audited
    assert state(hf) == before
    assert run.finished and not run.temporary
    assert (run.config.model, run.config.data) == ("memory:mine", "memory:questions")


def test_the_same_from_memory_and_by_name_gives_the_same_rows(audited, tmp_path):
    """A saved copy of the model and of the questions, by name, is the same plan but for names, and the same numbers."""
    hf, _, _, run = audited
    hf.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    data = locus.behaviour(ROWS).save(tmp_path / "rows.jsonl")
    again = locus.audit(str(tmp_path / "model"), data, "0.1,2.3", out=tmp_path / "RUN", **{**ONE, "claims": None})
    pandas.testing.assert_frame_equal(run.scores(), again.scores())
    plans = [json.loads((one.folder / "plan.json").read_text()) for one in (run, again)]
    assert plans[0]["context"] == plans[1]["context"] and plans[0]["claims"] == plans[1]["claims"]


def test_a_run_goes_on_with_the_same_model_and_with_no_other(audited, tmp_path):
    hf, _, model, run = audited
    copied = run.save(tmp_path / "copy")
    assert locus.audit(model, ROWS, "0.1,2.3", out=copied.folder, **{**ONE, "claims": None}).finished
    other = copy.deepcopy(hf)
    with torch.no_grad():
        other.lm_head.weight.add_(1.0)
    with pytest.raises(UserError, match="the plan that this run folder was begun with"):
        locus.audit(locus.wrap(other, byte_tokenizer(), "mine"), ROWS, "0.1,2.3", out=copied.folder, **{**ONE, "claims": None})


def test_weights_that_were_changed_after_wrapping_are_noticed(audited, tmp_path):
    hf = fresh()
    model = locus.wrap(hf, byte_tokenizer(), "mine")
    kept = model.fingerprint
    with torch.no_grad():
        hf.lm_head.weight.add_(1.0)
    claim = locus.probe(model, ROWS, size=1, progress=False, **{name: SMALL[name] for name in ("train", "validation", "test")})
    assert model.fingerprint != kept and claim.origin == "probe"


def test_what_lay_in_memory_is_asked_for_by_flag(audited, tmp_path):
    _, _, model, run = audited
    with pytest.raises(UserError, match=r"lay in somebody's memory.*Give --model, --data"):
        locus.verify(run, rerun=1, progress=False)
    found = locus.verify(run, rerun=1, model=model, behaviour=ROWS, progress=False)
    assert found.repeated["repeated"] >= 1 and max(found.repeated["largest"].values()) == 0.0
    with pytest.raises(UserError, match="lay in memory"):
        locus.load("memory:mine")
    with pytest.raises(UserError, match="lay in memory"):
        locus.behaviour("memory:questions")


def test_a_verdict_is_typed(audited):
    run = audited[3]
    filed = json.loads((run.folder / "verdict.json").read_text())["claims"][0]
    verdict = run.verdict
    assert verdict.special.standing == filed["special"]["standing"]
    assert list(verdict.special.interval) == filed["special"]["interval"]
    assert verdict.claim("given") is verdict.claims[0] and verdict.sentence == filed["sentence"]
    with pytest.raises(KeyError, match="no claim 'probe'"):
        verdict.claim("probe")
    with pytest.raises(ValidationError, match="frozen"):
        verdict.metric = "mc1"


def test_scores_are_a_tidy_frame(audited):
    run = audited[3]
    frame = run.scores()
    assert {"question", "split", "role", "arm", "claim", "read", "seed", "metric", "value", "chosen"} <= set(frame.columns)
    assert not frame.duplicated(["trial", "split", "metric", "question"]).any()
    base = frame.query("role == 'base' and split == 'test' and metric == 'mc2'")
    stated = run.verdict.baseline.base[0].mean("mc2")
    assert len(base) == 6 and base.value.mean() == pytest.approx(stated)
    assert set(run.scores("mc1").metric) == {"mc1"}
    with pytest.raises(UserError, match=r"There are:.*mc2"):
        run.scores("mc9")


@pytest.mark.parametrize("name", ["claim", "ceiling", "random-01", "complement"])
def test_an_attached_edit_says_what_the_engine_says(audited, name):
    """The edited model's log-probabilities are the stored scores' own; without the edit it is the model again, bit for bit."""
    from locus.engine.bank import Bank

    hf, before, model, run = audited
    edit = run.edit(name)
    ids = model.tokenizer("3 + 1 = 4", return_tensors="pt")["input_ids"]
    plain = copy.deepcopy(hf).eval()
    with torch.no_grad():
        with Bank([edit.edit]).attach(model):
            wanted = model.hf(input_ids=ids).logits
        with edit.attach(model) as edited:
            ours = edited(input_ids=ids).logits
        with edit.attach(plain) as edited:
            theirs = edited(input_ids=ids).logits
        unedited = plain(input_ids=ids).logits
    assert torch.allclose(ours, wanted, atol=1e-5) and torch.allclose(theirs, wanted, atol=1e-5)
    assert not torch.allclose(ours, unedited, atol=1e-3)
    assert torch.equal(unedited, hf.eval()(input_ids=ids).logits) and hf.train() is hf
    assert state(hf) == before


def test_a_shift_acts_from_the_last_prompt_token_on(audited):
    """Generating with its cache, the model says what the engine's own generation says under the same edit."""
    from locus.behaviours.prompts import prompt_format
    from locus.engine.generate import Speech, generate

    _, _, model, run = audited
    edit, text = run.edit("iti:given"), prompt_format(model.tokenizer, "qa")
    prompt = text.prompt("3 + 1 =")
    (said,) = generate(model, [prompt], [edit.edit], text, Speech(5))[0]
    asked = run.prompt("3 + 1 =", model.tokenizer)
    ids = asked["input_ids"]
    assert model.tokenizer.decode(ids[0]) == "<s>Q: 3 + 1 =\nA:"
    with edit.attach(model) as edited:
        whole = edited.generate(**asked, max_new_tokens=5, do_sample=False, pad_token_id=256)
    assert whole[0, ids.shape[1] :].tolist()[: len(said.tokens)] == list(said.tokens)


def test_an_edit_goes_on_no_other_model(audited):
    run, edit = audited[3], audited[3].edit("claim")
    for family, said in (("llama-mha", "Attach it to the model it was made for"), ("llama", "for which the edit was made")):
        other = fresh(family)
        with torch.no_grad():
            other.lm_head.weight.add_(1.0)
        with pytest.raises(UserError, match=said), edit.attach(locus.wrap(other, byte_tokenizer())):
            pass
    with pytest.raises(UserError, match="Finished edits:"):
        run.edit("nothing")


def test_a_run_shows_itself(audited, tmp_path):
    from matplotlib.figure import Figure

    run = audited[3]
    assert "memory:mine" in repr(run) and str(run.folder) in repr(run)
    said = repr(run.verdict)
    assert said == str(run.verdict) and run.verdict.sentence in said and len(said) < 1500
    reasons = [one.sentence for one in run.verdict.claims[0].by_question.values() if one.standing == "invalid"]
    assert all(one[:300] in said and one[:300] in repr(run) for one in reasons)
    assert isinstance(run.plot("verdict"), Figure) and run.plot("head-map")._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(UserError, match="There are: verdict"):
        run.plot("nothing")
    assert run.verify().line.startswith("intact, unsigned")
    with pytest.raises(UserError, match="a run's trials"):
        locus.open_run(tmp_path)


def test_the_card_says_what_to_do_next(audited):
    run = audited[3]
    shown = html.unescape(run._repr_html_())
    steps = next_steps(run.verdict.claims[0], run.verdict)
    assert steps and all(step[:300] in shown for step in steps)


def test_a_card_shows_a_strangers_text_harmless(run_copy):
    poison(run_copy)
    page = locus.open_run(run_copy)._repr_html_()
    assert "<script" not in page and "<img" not in page and BREAKOUT not in page
    assert "&lt;script&gt;" in page and '" onclick=' not in page
    assert len(page) < 20_000


def test_without_a_folder_a_run_is_temporary_and_says_so(audited, capsys):
    settings = {**ONE, "random": 4, "singles": 0, "claims": None, "progress": None}
    run = locus.audit(audited[2], ROWS, "0.1", **settings)
    assert run.temporary and "temporary folder" in repr(run) and str(run.folder) in capsys.readouterr().err
    run_again = locus.open_run(run.folder)
    assert run_again.verdict == run.verdict


def test_a_callback_hears_of_progress(audited):
    heard = []
    claim = locus.probe(audited[2], ROWS, size=2, progress=lambda what, share: heard.append((what, share)), train=8, validation=4)
    assert heard and all(0 <= share <= 1 for _, share in heard) and len(claim.location) == 2


def test_a_notice_names_the_users_line_once(audited):
    """However deep in the package something is noticed, and however many verbs notice it."""
    few = {"train": 100, "validation": 4, "progress": False}
    with pytest.warns(FewQuestions) as heard:
        _ = [locus.probe(audited[2], ROWS, size=size, **few) for size in (1, 2)]
    (one,) = heard
    line = Path(one.filename).read_text().splitlines()[one.lineno - 1]
    assert one.filename == __file__ and "locus.probe(audited" in line
    with pytest.warns(FewQuestions):
        locus.probe(audited[2], ROWS, size=1, **few)


def test_a_bar_escapes_what_it_names():
    assert "<script" not in bar("<script>", 0.5) and 'value="50.0"' in bar("x", 0.5)


def test_an_interrupted_audit_goes_on(audited, tmp_path):
    def stop(what, share):
        if share > 0.5:
            raise KeyboardInterrupt

    _, _, model, whole = audited
    settings = {**ONE, "claims": None}
    with pytest.raises(KeyboardInterrupt) as stopped:
        locus.audit(model, ROWS, "0.1,2.3", out=tmp_path / "RUN", **{**settings, "progress": stop})
    assert any("goes on from there" in one for one in stopped.value.__notes__)
    half = locus.open_run(tmp_path / "RUN")
    assert not half.finished and half.verdict.unfinished
    run = locus.audit(model, ROWS, "0.1,2.3", out=tmp_path / "RUN", **settings)
    assert run.finished
    pandas.testing.assert_frame_equal(run.scores(), whole.scores())


# Questions.


def test_a_behaviour_is_the_same_from_wherever_it_comes(tmp_path):
    listed = locus.behaviour(ROWS)
    frame = pandas.DataFrame(ROWS).rename(columns={"question": "q", "wanted": "good", "unwanted": "bad"})
    framed = locus.behaviour(frame, fields={"question": "q", "wanted": "good", "unwanted": "bad"})
    arrays = locus.behaviour(
        frame.assign(bad=frame.bad.map(np.array)), fields={"question": "q", "wanted": "good", "unwanted": "bad"}
    )
    filed = locus.behaviour(listed.save(tmp_path / "rows.jsonl"))
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text("".join(json.dumps({"q": r["question"], "w": r["wanted"], "u": r["unwanted"]}) + "\n" for r in ROWS))
    mapped = locus.behaviour(renamed, fields={"question": "q", "wanted": "w", "unwanted": "u"})
    other = pandas.DataFrame(ROWS).rename(columns={"wanted": "good", "unwanted": "false"}).assign(id=7)  # not ours: not read
    halves = [locus.behaviour(one, fields={"wanted": "good"}) for one in (other, other.to_dict("records"))]
    texts = [[item.question for item in one.items] for one in (listed, framed, arrays, filed, mapped, *halves)]
    assert texts.count(texts[0]) == 7 and len({one.sha256 for one in (listed, framed, arrays, filed, *halves)}) == 1
    assert len(listed) == 30 and "30 questions" in repr(listed)
    (code,) = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[1] / "docs" / "data.md").read_text(), re.M | re.S)
    exec(compile(code, "data.md", "exec"), {})
    (one,) = locus.behaviour([{"question": "a", "true": "b", "false": "c"}]).items
    assert (one.wanted, one.unwanted) == (("b",), ("c",))


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA, pandas.NaT])
def test_missing_cells_are_named_by_row(missing):
    frame = pandas.DataFrame(ROWS).astype(object)
    frame.at[3, "wanted"], frame.at[17, "question"] = missing, missing
    frame.index = [f"label-{place}" for place in range(30)]
    with pytest.raises(UserError, match=r"question of row 17, wanted of row 3"):
        locus.behaviour(frame)


def test_wrong_rows_are_named():
    wrong = [*ROWS[:3], {"question": "x", "wanted": [], "unwanted": ["a"]}, "text", {"question": "y", "wanted": ["a"]}]
    with pytest.raises(UserError, match=r"row 3: there is no true answer; .*row 4: expected an object.*row 5: no field 'false'"):
        locus.behaviour(wrong)
    with pytest.raises(UserError, match="none called q"):
        locus.behaviour(pandas.DataFrame(ROWS), fields={"question": "q", "wanted": "wanted", "unwanted": "unwanted"})
    other = pandas.DataFrame(ROWS).rename(columns={"wanted": "right"})
    with pytest.raises(UserError, match=r"none called wanted; it has question, right.*fields="):
        locus.behaviour(other)
    with pytest.raises(UserError, match=r"none called unwanted; it has question, right"):
        locus.behaviour(other.drop(columns="unwanted"), fields={"wanted": "right"})
    with pytest.raises(UserError, match=r"names what is there; received Bset; a row has question, wanted, unwanted\."):
        locus.behaviour(ROWS, fields={"best": "Bset"})
    with pytest.raises(UserError, match="a name, a path, a list"):
        locus.behaviour(7)


def test_questions_that_are_too_few_to_be_split_are_refused_with_all_else_that_is_wrong():
    with pytest.raises(UserError) as error:
        locus.audit("planted:localized:3", ROWS[:9], "0.1", random=3)
    said = str(error.value)
    assert "2 things to fix" in said and "with which no p below 0.250" in said
    assert "at least 4 for train, 2 for validation, 4 for test; received 9 questions in 9 groups, which leave 5" in said
    with pytest.raises(UserError, match="at least 3 groups"):
        locus.plan("planted:localized:3", [{**row, "group": str(n % 2)} for n, row in enumerate(ROWS)], "0.1")


def test_a_data_set_of_the_hub_is_read_by_its_fields_at_a_pinned_commit(monkeypatch, tmp_path):
    """Here one that was fetched before; a file of the same rows is read alike."""
    import huggingface_hub.constants

    commit, fields = "0123456789abcdef" * 2 + "01234567", {"question": "Question", "wanted": "best", "unwanted": "bad"}
    place = tmp_path / "datasets--someone--sums" / "snapshots" / commit
    place.mkdir(parents=True)
    frame = pandas.DataFrame({"Question": [row["question"] for row in ROWS], "best": [row["wanted"][0] for row in ROWS]})
    frame.assign(bad=[row["unwanted"] for row in ROWS]).to_parquet(place / "train.parquet")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    found = locus.behaviour("someone/sums", fields=fields, revision=commit)
    assert len(found) == 30 and found.items[0].wanted == ("1",) and found.dataset.origin == f"someone/sums@{commit}"
    assert locus.behaviour(place / "train.parquet", fields=fields).sha256 == found.sha256
    for revision in (None, "main"):
        with pytest.raises(UserError, match="a pinned revision of someone/sums"):
            locus.behaviour("someone/sums", fields=fields, revision=revision)


# Claims.


def test_claims_are_made_of_anything_that_names_heads(tmp_path):
    wanted = ["0.1", "2.3"]
    for source in ("0.1,2.3", "L0H1,L2H3", [(0, 1), (2, 3)], ["0.1", "2.3"]):
        assert locus.claim(source).location.names == wanted
    locus.claim("0.1,2.3", name="mine").save(tmp_path / "claim.json")
    assert locus.claim(tmp_path / "claim.json").name == "mine"
    with pytest.raises(UserError, match="'given' twice"):
        locus.audit("planted:localized:3", claim=[locus.claim("0.1"), locus.claim("0.2")])


def test_a_plan_counts_what_the_audit_then_runs(audited):
    run, model = audited[3], audited[2]
    told = locus.plan(model, ROWS, "0.1,2.3", **{name: value for name, value in ONE.items() if name not in ("claims", "sign")})
    took = run.verdict.cost
    assert {role: one.trials for role, one in told.by_role.items()} == {role: one.trials for role, one in took.by_role.items()}
    assert told.macs == pytest.approx(took.total.macs) and told.seconds > 0
    assert "multiply-adds" in repr(told) and f"{told.trials}" in repr(told)


# What stands in the way.


def _meta():
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(configuration("llama"))


def _eight_bits():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(fresh().eval(), {torch.nn.Linear}, torch.qint8)


def _hooked():
    hf = fresh()
    hf.model.layers[1].register_forward_hook(lambda module, args, output: output)
    return hf


def _replaced():
    hf = fresh()
    hf.model.layers[0].mlp.forward = torch.relu
    return hf


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_meta, "with its weights in memory.*'meta'"),
        (_eight_bits, "plain numbers in float32 or bfloat16.*quantised"),
        (_hooked, r"without hooks.*a hook \(.*at model.layers.1"),
        (_replaced, "a forward that was replaced at model.layers.0.mlp"),
        (lambda: fresh().half(), "float32 or bfloat16.*float16"),
        (lambda: torch.nn.Linear(2, 2), "a causal LM of transformers"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_sentence(make, said):
    hf = make()
    hooks = [(len(one._forward_hooks), one.training) for one in hf.modules()]
    with pytest.raises(UserError, match=said):
        locus.wrap(hf, byte_tokenizer())
    assert [(len(one._forward_hooks), one.training) for one in hf.modules()] == hooks


def test_a_tokenizer_without_offsets_is_refused():
    from transformers import ByT5Tokenizer

    with pytest.raises(UserError, match=r"a fast tokenizer.*ByT5Tokenizer"):
        locus.wrap(fresh(), ByT5Tokenizer())


def test_wrapping_twice_is_wrapping_once():
    hf = fresh()
    one, two = locus.wrap(hf, byte_tokenizer()), locus.wrap(hf, byte_tokenizer())
    assert one.fingerprint == two.fingerprint and locus.wrap(one, one.tokenizer) is one
    assert locus.wrap(one.hf, one.tokenizer).fingerprint == one.fingerprint  # the view of a view
    mine = locus.wrap(hf, byte_tokenizer(), "mine")
    assert locus.wrap(mine.hf, mine.tokenizer).name == "memory:mine"
    with pytest.raises(UserError, match="a wrapped one with another"):
        locus.wrap(one, byte_tokenizer())


def test_a_loaded_model_that_is_wrapped_keeps_its_name_wherever_its_files_lie(tmp_path):
    hf = fresh()
    hf.config._name_or_path = f"{tmp_path}/snapshots/0123abcd"
    model = Model(hf, byte_tokenizer(), "org/small")
    assert locus.wrap(model.hf, model.tokenizer).name == "memory:small"


def test_a_model_that_was_not_wrapped_is_told_how():
    with pytest.raises(UserError, match=r"Use locus.wrap\(model, tokenizer\)"):
        locus.audit(fresh(), ROWS)


def test_settings_that_an_open_model_contradicts_are_refused():
    model = locus.wrap(fresh(), byte_tokenizer())
    with pytest.raises(UserError, match="dtype='float32', as it was opened"):
        locus.audit(model, ROWS, "0.1", dtype="bfloat16")


LORA = [
    {"target_modules": ["q_proj", "o_proj"]},
    {"target_modules": ["o_proj"], "use_dora": True},
    {"target_modules": ["embed_tokens", "v_proj"], "modules_to_save": ["lm_head"]},
    {"target_modules": ["o_proj"], "bias": "all"},
]


@pytest.mark.parametrize("settings", LORA, ids=lambda one: "-".join(one))
def test_a_peft_model_is_audited_as_it_runs(settings, tmp_path):
    peft = pytest.importorskip("peft")
    wanted = peft.LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=0.5, init_lora_weights=False, **settings)
    theirs = peft.get_peft_model(fresh(), wanted).train()
    before = state(theirs)
    model = locus.wrap(theirs, byte_tokenizer())
    ids = torch.arange(40)[None]
    with torch.no_grad():
        said = model.hf(input_ids=ids).logits
        own = copy.deepcopy(theirs).eval()(input_ids=ids).logits
    assert state(theirs) == before and not any("lora" in name for name, _ in model.hf.named_parameters())
    assert torch.allclose(said, own, atol=1e-4)
    merged = copy.deepcopy(theirs).merge_and_unload(safe_merge=True)
    merged.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert model.fingerprint == locus.load(str(tmp_path), adapter="none").fingerprint
    claim = locus.probe(model, ROWS, size=1, progress=False, train=8, validation=4)
    assert len(claim.location) == 1 and state(theirs) == before
    with theirs.disable_adapter(), pytest.raises(UserError, match="Switch its adapters on"):
        locus.wrap(theirs, byte_tokenizer())


# What is imported.


def _imported(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "transformers", "scipy", "sklearn", "pandas", "matplotlib", "pydantic", "IPython"}


def test_importing_locus_imports_nothing_heavy():
    assert not HEAVY & _imported("import locus, sys; dir(locus); print(*sys.modules)")


def test_help_and_the_names_of_commands_import_no_model():
    code = "import sys; sys.argv = ['locus', '--help']\nimport locus.cli\ntry: locus.cli.main()\nexcept SystemExit: pass\n"
    found = _imported(code + "print(*sys.modules)")
    assert not {"torch", "transformers", "scipy", "sklearn", "pandas", "matplotlib"} & found


def test_every_public_name_is_there_and_stays_a_verb():
    import importlib

    for name in ("audit", "patch", "plan.config", "calibrate.table"):
        importlib.import_module(f"locus.{name}")
    for name in locus.__all__:
        found = getattr(locus, name)
        assert name in dir(locus) and (isinstance(found, str) or callable(found)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = locus.nothing


def test_a_script_registers_with_no_other_import():
    code = "import locus\nlocus.registry.register('claims', 'mine', 'mine:found')\n"
    assert "mine:found" in _imported(code + "print(locus.registry.entries('claims')['mine'].target)")


def test_questions_of_the_tests_are_questions():
    assert len(locus.behaviour([item.to_dict() for item in QUESTIONS])) == len(QUESTIONS)
