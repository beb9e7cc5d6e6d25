"""`locus patch` from end to end on a tiny model: the map, resuming, other choices, and the audit of what it found."""

import json
import math
import re

import numpy as np
import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM

from locus import atomic, claims
from locus.audit import audit
from locus.errors import UserError
from locus.machine.threads import using
from locus.models.load import load
from locus.patch import find
from locus.patching import controls
from locus.patching.compare import agreement, sentences, windows
from locus.patching.component import Component
from locus.patching.material import tried
from locus.patching.outcome import outcome
from locus.patching.settings import resolve
from locus.patching.sweep import PatchMap, heads, sweep
from locus.plan.config import resolve as resolve_audit
from locus.records.patch import MapSetting
from locus.sites.site import Location
from locus.sites.space import SiteSpace
from tests.families import configuration
from tests.test_patching_tasks import word_tokenizer

# A random model moves little in one direction: a loose level lets something be found.
FAST = {"pairs": 24, "keep": "right", "flips": 500, "rows": 8, "alpha": 0.5, "least": 0.0, "claim_size": 3}


@pytest.fixture(scope="session")
def word_model(tmp_path_factory) -> str:
    """A folder with a tiny random model whose tokenizer has whole words."""
    folder, tokenizer = tmp_path_factory.mktemp("words"), word_tokenizer(True)
    config = configuration("llama")
    config.vocab_size = len(tokenizer)
    model = AutoModelForCausalLM.from_config(config).float()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def ioi_map(word_model, tmp_path_factory):
    """A finished map of ioi, as folder and content."""
    out = tmp_path_factory.mktemp("maps") / "ioi"
    return out, find(resolve(model=word_model, task="ioi", **FAST), out)


def test_a_map_holds_every_effect_and_what_was_found(word_model, ioi_map):
    out, record = ioi_map
    (entry,) = record.maps
    table = pyarrow.parquet.read_table(out / "effects.parquet").to_pydict()
    config = resolve(model=word_model, task="ioi", **FAST)
    model = load(word_model)
    pairs, _ = tried(config, model, "S2")
    expected = sweep(model, pairs, heads(model.layout))
    assert table["component"][:48] == ["0.0"] * 24 + ["0.1"] * 24 and table["example"][:3] == [0, 1, 2]
    np.testing.assert_allclose(table["patched"], expected.patched.ravel(), atol=1e-4)
    np.testing.assert_allclose(table["effect"], expected.effects().values.ravel(), atol=1e-3)
    means = expected.effects().values.mean(axis=1)
    np.testing.assert_allclose([one.mean for one in entry.components], means, atol=1e-3)
    assert entry.detected == tuple(one.name for one in entry.components if one.adjusted <= 0.5) != ()
    assert (
        json.loads((out / "patch.json").read_text()) == json.loads(json.dumps(record.to_json())) and not (out / "parts").exists()
    )
    for ending in ("svg", "pdf", "png", "csv"):
        assert (out / "figures" / f"map-0.{ending}").stat().st_size > 200
    page = (out / "page.html").read_text()
    assert "<script" not in page and "default-src &#39;none&#39;" in page and not re.search(r'(src|href)="https?:', page)
    assert all(name in page for name in entry.detected)


def test_the_heads_together_are_set_beside_random_sets_and_all_others(word_model, ioi_map):
    _, record = ioi_map
    together, model = record.controls, load(word_model)
    pairs, _ = tried(resolve(model=word_model, task="ioi", **FAST), model, "S2")
    claimed = record.claim.heads
    joint = tuple(Component("head", *map(int, name.split("."))) for name in claimed)
    others = tuple(patch[0] for patch in heads(model.layout) if str(patch[0]) not in claimed)
    expected = sweep(model, pairs, [joint, others]).effects().values.mean(axis=1)
    np.testing.assert_allclose([together.joint[0], together.complement[0]], expected, atol=1e-3)
    assert (
        len(together.random) == min(19, math.comb(12, len(claimed)) - 1)
        and together.joint[1] < together.joint[0] < together.joint[2]
    )


def test_random_sets_are_matched_by_layer_where_there_are_enough(llama):
    claimed = Location.parse("0.1,2.0,2.3")
    patches, match = controls.sets(claimed, llama.layout, 19, 0)
    assert match == "layer" and len(patches) == 21  # 4 x 6 - 1 = 23 others with one head in layer 0 and two in layer 2
    assert [len(patch) for patch in patches] == [3, 9] + [3] * 19
    assert all([component.layer for component in patch] == [0, 2, 2] for patch in patches[2:])
    assert len(set(patches)) == 21
    _, match = controls.sets(Location.parse("1.2"), llama.layout, 8, 0)  # a layer has 3 other heads, the model 11
    assert match == "uniform"
    patches, _ = controls.sets(Location.parse("1.2"), llama.layout, 19, 0)
    assert len(set(patches)) == 2 + 11
    assert controls.sets(SiteSpace.of("head", llama.layout).everywhere, llama.layout, 19, 0) is None
    # Means 0.5, 0.1 and random 0.2, -0.6, 0.0: one of three reaches 0.5 in size, so p = (1 + 1) / (1 + 3).
    values = np.array([0.5, 0.1, 0.2, -0.6, 0.0])[:, None] + np.array([-0.01, 0.0, 0.01])
    compared = controls.compared(values, 3, "layer", 0.95)
    assert compared.p == 0.5 and compared.random == pytest.approx([0.2, -0.6, 0.0])
    # t(0.975, 2) = 4.3027, and the standard error of (-0.01, 0, 0.01) is 0.01 / sqrt(3).
    assert compared.joint == pytest.approx([0.5, 0.5 - 4.3027 * 0.01 / 3**0.5, 0.5 + 4.3027 * 0.01 / 3**0.5], abs=1e-5)


def test_a_stopped_run_goes_on_and_ends_the_same(word_model, ioi_map, tmp_path):
    config = resolve(model=word_model, task="ioi", **FAST)

    class Stop(Exception):
        pass

    def stop(what, share):
        if share >= 0.5:
            raise Stop

    with pytest.raises(Stop):
        find(config, tmp_path / "run", stop)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert 0 < len(kept) < 4 and not (tmp_path / "run" / "patch.json").exists()
    with pytest.raises(UserError, match="stopped goes on"):
        claims.given(f"patch:{tmp_path / 'run'}")
    again = find(config, tmp_path / "run")
    assert again.model_copy(update={"seconds": ioi_map[1].seconds}) == ioi_map[1]
    with pytest.raises(UserError, match="seed: 0 there, 3 now"):
        find(resolve(model=word_model, task="ioi", seed=3, **FAST), tmp_path / "run")


def test_what_a_stopped_run_kept_is_not_computed_again(word_model, tmp_path):
    """A kept batch is read from its file: falsify one, and the map shows it."""
    config = resolve(model=word_model, task="ioi", **FAST)

    def stop(what, share):
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(config, tmp_path / "run", stop)
    part = next((tmp_path / "run" / "parts").glob("*.npz"))
    with np.load(part) as held:
        values = dict(held)
    np.savez(part, **{**values, "clean": values["clean"] + 1000.0})
    assert find(config, tmp_path / "run").maps[0].clean > 100


def test_batches_made_with_other_threads_are_made_again(word_model, tmp_path):
    """Their last digits are others; what a killed process left half written is gone at the end."""
    config = resolve(model=word_model, task="ioi", **FAST)

    def stop(what, share):
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), using(3):
        find(config, tmp_path / "run", stop)
    part = next((tmp_path / "run" / "parts").glob("*.npz"))
    with np.load(part) as held:
        values = dict(held)
    np.savez(part, **{**values, "clean": values["clean"] + 1000.0})
    (tmp_path / "run" / "parts" / f"{atomic.MARK}0123456789abcdef").write_bytes(b"half")
    with using(2):
        assert find(config, tmp_path / "run").maps[0].clean < 100
    assert not (tmp_path / "run" / "parts").exists()


def test_the_heads_found_are_audited_on_prompts_that_were_not_patched(word_model, ioi_map, tmp_path):
    out, record = ioi_map
    claim = claims.given(f"patch:{out}")
    assert claim.origin == "patch" and claim.location.names == list(record.claim.heads) and claim.scores
    settings = {"train": 8, "validation": 4, "test": 8, "epochs": 1, "random": 4, "alpha": 0.25, "text_passages": 0}
    config = resolve_audit(model=word_model, data="task:ioi:60", claims=(f"patch:{out}",), shift_random=1, **settings)
    assert config.prompt == "bare"
    # A patching run says what it was made on; heads of other weights are another claim.
    other = json.loads((out / "patch.json").read_text())
    other["claim"]["about"]["model_fingerprint"] = "0" * 64
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "patch.json").write_text(json.dumps(other))
    elsewhere = config.model_copy(update={"claims": (f"patch:{tmp_path / 'other'}",)})
    with pytest.raises(UserError, match=f"--claim {','.join(claim.location.names)}"):
        audit(elsewhere, tmp_path / "refused")
    verdict = audit(config, tmp_path / "run")
    (one,) = verdict.claims
    assert one.name == "patch:ioi" and list(one.location) == claim.location.names
    assert one.special.standing in ("supported", "refuted", "undecided", "invalid")


def test_no_claim_is_made_of_nothing(word_model, tmp_path):
    record = find(resolve(model=word_model, task="ioi", **{**FAST, "least": 1e6}), tmp_path / "none")
    assert record.claim is None and record.maps[0].detected == ()
    with pytest.raises(UserError, match="more --pairs"):
        claims.given(f"patch:{tmp_path / 'none'}")
    with pytest.raises(UserError, match="patch:DIR"):
        claims.given(f"patch:{tmp_path / 'nowhere'}")


def test_comparing_choices(word_model, tmp_path):
    settings = {**FAST, "pairs": 8, "draws": 2, "flips": 100, "tokens": ("S2", "ABC"), "windows": (2,), "screen": 1, "sample": 1}
    record = find(resolve(model=word_model, task="ioi", compare=True, **settings), tmp_path / "run")
    # 2 choices of tokens x 2 corruptions x 3 metrics x (heads, MLPs, windows of 2 MLPs)
    assert len(record.maps) == 36 and len({one.label for one in record.maps}) == 36
    # pairs of 12 maps within each of the three families
    assert len(record.agreement) == 3 * 66
    assert len(record.windows) == 12 and all(len(row.windows) == 3 for row in record.windows)
    assert len(record.screens) == 12 and all(0 <= row.bound <= 12 for row in record.screens)
    # Heads are screened; single MLPs are not, since every window is read against all of its layers.
    assert {len(entry.components) for entry in record.maps if entry.site == "mlp"} == {3}
    assert record.sentences
    page = (tmp_path / "run" / "page.html").read_text()
    assert "What other choices find" in page and "agreement-head" in page


def made(tokens, metric, values):
    """An outcome of three heads with given effects, [3, examples]."""
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[1]
    setting = MapSetting(tokens=tokens, corruption="token replacement", metric=metric, site="head", width=1)
    patches = tuple((Component("head", 0, head),) for head in range(3))
    held = PatchMap(patches, values, np.ones(n), np.zeros(n), "denoise", metric, "token replacement")
    return outcome(resolve(flips=500, least=0.1), setting, held)


def test_agreement_by_hand():
    noise = 0.01 * np.random.default_rng(0).normal(size=(3, 20))
    one = made("S2", "logit difference", noise + np.array([[0.8], [-0.5], [0.0]]))
    two = made("S2", "probability", noise + np.array([[0.8], [0.0], [0.3]]))
    (row,) = agreement([one, two])
    # {0.0, 0.1} and {0.0, 0.2}: one of three shared; orders (3, 1, 2) and (3, 1, 2) of means .8 -.5 0 and .8 0 .3: the same
    assert row.jaccard == pytest.approx(1 / 3) and row.correlation == pytest.approx(1.0)
    assert (row.only_a, row.only_b, row.differ) == (("0.1",), ("0.2",), ("metric",))
    text = " ".join(sentences([one, two], [row], windows([one, two])))
    assert "misses 0.1 and adds 0.2" in text and "it misses 0.1" in text


def test_what_cannot_be_patched_is_said_before_anything_is_computed(word_model, tmp_path):
    strict = {**FAST, "keep": "all", "least_right": 1.0}
    with pytest.raises(UserError, match="keep=right"):
        find(resolve(model=word_model, task="ioi", **strict), tmp_path / "wrong")
    record = find(resolve(model=word_model, task="ioi", **{**strict, "keep": "right"}), tmp_path / "right")
    assert record.maps[0].clean > 0 and record.right["S2"] < 1
    with pytest.raises(UserError, match="induction"):
        find(resolve(model=word_model, task="cooking", **FAST), tmp_path / "task")
    with pytest.raises(UserError, match="only for the task ioi"):
        find(resolve(model=word_model, task="greater-than", tokens=("S2",), **FAST), tmp_path / "tokens")
    with pytest.raises(UserError, match="direction noise"):
        resolve(corruptions=("mean",))
    with pytest.raises(UserError, match="pairs"):
        resolve(pairs=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="empty folder"):
        find(resolve(model=word_model, **FAST), tmp_path / "full")


def test_hostile_prompts_stay_text(word_model, tmp_path):
    path = tmp_path / "pairs.jsonl"
    breakout = "</title><script>alert(1)</script>\u202e"
    row = {
        "clean": f"{breakout} John gave it to",
        "corrupted": f"{breakout} Mary gave it to",
        "answer": " Mary",
        "other": " John",
    }
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "clean": f"{breakout} Tom gave it to"}) + "\n")
    find(resolve(model=word_model, task=str(path), **{**FAST, "pairs": 2, "keep": "all", "least_right": 0.0}), tmp_path / "run")
    page = (tmp_path / "run" / "page.html").read_text()
    assert "<script" not in page and "\u202e" not in page and "&lt;script&gt;" in page
