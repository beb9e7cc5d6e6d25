"""Edits of a higher rank: laws of the edit and its search, the audit that asks again by them, and what it says of *special*."""

import json
import shutil
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

import locus
from locus import behaviours
from locus.behaviours.prompts import prompt_format
from locus.conclude.derive import recorded
from locus.conclude.ranks import told
from locus.edits import Rank1, full, load_edit
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.checks import tree_logprobs
from locus.engine.cost import Sizes
from locus.engine.descent import descend, objective_of
from locus.engine.linear import answers_of, gradients_of, jacobian_of
from locus.engine.optimum import Curvature, FirstOrder, _blocks, _leading
from locus.engine.train import TrainingRecipe, whole_gradients
from locus.engine.training_set import TrainingSet
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.models.load import load
from locus.plan.config import resolve
from locus.plan.forecast import Forecast
from locus.plan.preconditions import check, early
from locus.plan.reading import read_plan
from locus.records.beside import CurveClaim, Nested, Ranked
from locus.records.store import Store
from locus.report.consent import Given
from locus.report.export import export_edit, find_trial
from locus.report.rerun import rerun
from locus.report.verify import verify
from locus.sites import Location
from tests import wide
from tests.families import QUESTIONS, tiny
from tests.test_exact_resume import audited, content, cut_back
from tests.test_nulls import claim_of, finding
from tests.test_sites import edited_by_hand

PLACE = Location.parse("0.1,1.0")
FORMS = {"layer": {}, "heads": {"read": "heads"}, "free": {"form": "free"}}


@pytest.fixture(scope="module")
def material():
    model = tiny("llama")
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:4])
    base = base_pass(model, trie, layers=[0, 1, 2])
    return TrainingSet(model, trie, QUESTIONS[:4], base.logprobs, base.residuals)


def edit_of(model, form="layer", rank=3, size=0.1):
    edit = Rank1(model.layout, PLACE, seed=3, rank=rank, **FORMS[form])
    generator = torch.Generator().manual_seed(1)
    edit.flat.data += size * torch.randn(edit.flat.shape, generator=generator)
    return edit


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("form", ["layer", "heads"])
def test_an_edit_and_its_gradient_are_those_of_plain_hooks(family, form):
    """By transformers' own forward and autograd: what is said, its derivatives answer by answer, and the whole loss."""
    model = tiny(family)
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:2])
    edit, base = edit_of(model, form), base_pass(model, trie, layers=[0])
    plain = edited_by_hand(model, edit, trie.sequences)
    assert float((plain.detach() - torch.from_numpy(base.logprobs)).abs().max()) > 0.1, "the edit does something"
    slow = torch.stack([torch.autograd.grad(one, edit.flat, retain_graph=True)[0] for one in plain])
    torch.testing.assert_close(tree_logprobs(model, trie, [edit], base.residuals)[0], plain.detach(), atol=2e-4, rtol=1e-4)
    parts = [gradients_of(model, part, list(edit.layers), edit) for part in answers_of(trie, range(len(trie.sequences)))]
    jacobian, logprobs = jacobian_of(edit, parts, len(trie.sequences))
    torch.testing.assert_close(logprobs.float(), plain.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(jacobian, slow, atol=2e-4 * float(slow.abs().max()), rtol=1e-3)
    on = TrainingSet(model, trie, QUESTIONS[:2], base.logprobs, base.residuals)
    loss = objective_of(on, TrainingRecipe()).loss(plain.double() - torch.from_numpy(base.logprobs))
    (gradient,) = torch.autograd.grad(loss, edit.flat)
    [(mine, shared)] = whole_gradients(on, [edit], [TrainingRecipe()])
    assert mine == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(shared, gradient, atol=1e-3 * float(gradient.abs().max()), rtol=1e-3)


def test_it_begins_at_the_identity_and_pairs_add_up(material):
    """Three pairs are the sum of three edits of one pair each, at the same inputs; without any b the model says the same bits."""
    model, tokens = material.model, torch.tensor([[1, 7, 42, 99, 3]])
    start = Rank1(model.layout, PLACE, rank=3)
    assert start.is_identity and start.n_parameters == 3 * 2 * (48 + 12)
    with torch.no_grad():
        before = model.hf(input_ids=tokens).logits
        with Bank([start]).attach(model):
            assert torch.equal(model.hf(input_ids=tokens).logits, before)
    edit = Rank1(model.layout, Location.parse("2.1"), rank=3)
    edit.flat.data.normal_(generator=torch.Generator().manual_seed(0))
    o = torch.randn(7, 48, generator=torch.Generator().manual_seed(2))
    terms = edit.terms(2)
    added = sum(torch.outer(o @ a, b) for a, b in zip(terms.read, terms.write, strict=True))
    bank = Bank([edit.frozen({})])
    with bank.attach(model) as state, torch.no_grad():
        edited, _, _ = bank._apply(edit.point, 2, o[None], state)
    torch.testing.assert_close(edited[0], o + added.detach(), atol=1e-5, rtol=1e-5)


def test_of_rank_1_numbers_and_files_are_what_they_were(material):
    """One a, one b, vectors in the file; and beside edits of a higher rank in a bank each says what it says alone."""
    model = material.model
    one, three = edit_of(model, rank=1), edit_of(model, rank=3)
    a, b = one.places(0)
    assert (a, b) == (slice(0, 48), slice(48, 96)) and "rank" not in one.about and three.about["rank"] == 3
    shapes = {name: tuple(value.shape) for name, value in tensors_of(one.frozen({}).content()).items()}
    assert set(shapes.values()) == {(48,)}
    together = tree_logprobs(model, material.trie, [three, one])
    for edit, mine in zip((three, one), together, strict=True):
        torch.testing.assert_close(mine, tree_logprobs(model, material.trie, [edit])[0], atol=1e-4, rtol=1e-4)


def test_where_sites_are_narrower_than_the_rank_it_is_theirs(material):
    """A head of twelve numbers has edits of rank 12 at most; freely everywhere it is what is asked for."""
    layout = material.model.layout
    assert [Rank1(layout, PLACE, rank=16).rank(layer) for layer in (0, 1)] == [12, 12]
    both = Rank1(layout, Location.parse("0.1,0.2,1.0"), rank=16)
    assert (both.rank(0), both.rank(1)) == (16, 12)
    assert tree_logprobs(material.model, material.trie, [both]).shape == (1, len(material.trie.sequences))
    assert full(layout, form="free").n_parameters == 3 * (48 + 32)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_gives_it_back_and_one_that_is_none_is_refused(material, form, tmp_path):
    edit = edit_of(material.model, form).frozen({})
    edit.save(tmp_path / "edit")
    back = load_edit(tmp_path / "edit")
    for layer, terms in edit.layers.items():
        for name in ("read", "write", "out"):
            here, there = getattr(terms, name), getattr(back.layers[layer], name)
            assert here is there is None or torch.equal(here, there)
    content, about = edit.content(), json.loads(edit.content()[8:][: int.from_bytes(edit.content()[:8], "little")])
    tensors = tensors_of(content)
    for wrong in (
        tensors["0.read"][:2],
        tensors["0.read"].repeat(4, 1),
        tensors["0.read"].repeat(20, 1),
        tensors["0.read"][:0],
        tensors["0.read"][:, :5],
    ):
        (tmp_path / "wrong").write_bytes(bytes_of({**tensors, "0.read": wrong.contiguous()}, about["__metadata__"]))
        with pytest.raises(UserError, match="an edit as locus saves it"):
            load_edit(tmp_path / "wrong")


def test_first_singular_vectors_are_those_of_a_decomposition():
    """A matrix with singular values 2 to the -i: of forty, the first four, within float32; of one with two, noise beyond."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(size, 40, generator=generator))[0] for size in (90, 60))
    vectors = _leading((left * 0.5 ** torch.arange(40)) @ right.T, 4)
    torch.testing.assert_close((vectors @ right[:, :4]).abs(), torch.eye(4), atol=1e-4, rtol=0)
    assert all(float(one[one.abs().argmax()]) > 0 for one in vectors)
    few = _leading(left[:, :2] @ right[:, :2].T, 4)
    torch.testing.assert_close(few @ few.T, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close((few[:2] @ right[:, :2]).norm(), torch.tensor(2.0).sqrt(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_start_reads_along_the_gradients_first_directions(material, form):
    """The base model's own gradient by a free matrix at a layer, by autograd: its first three right singular vectors."""
    model, trie = material.model, material.trie
    edit = Rank1(model.layout, PLACE, rank=3, **FORMS[form])
    shared = FirstOrder(model, trie, form=edit.form)
    objective = objective_of(material, TrainingRecipe())
    _, gradient = shared.begin(edit, objective)
    [(_, exact)] = whole_gradients(material, [edit], [TrainingRecipe()])
    assert float((gradient - exact.double()).norm()) < 0.02 * float(exact.norm())
    slope, _ = objective.slope_and_curvature(torch.zeros(shared.count))
    whole = torch.zeros(32 if form == "free" else 48, 48)
    for part in answers_of(trie, range(len(trie.sequences))):
        found = gradients_of(model, part, range(3), form=edit.form)
        weights = -slope[list(part.sequences)].float()[:, None, None]
        whole += torch.einsum("rtw,rtf->wf", found.gradients[1] * weights * part.real[:, :, None], found.inputs[1])
    if form != "free":
        whole = whole * edit.written(1)[:, None]
    if form == "heads":
        whole = whole * edit.written(1)
    values = torch.linalg.svdvals(whole)
    along = torch.linalg.svdvals(whole @ edit.terms(1).read.detach().T)
    torch.testing.assert_close(along, values[:3], rtol=0.02, atol=0.0)


def test_a_curvature_in_parts_is_that_of_the_whole(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    half, right = torch.randn(9, 1000, generator=generator), torch.randn(1000, generator=generator).double()
    whole = Curvature.of(half)
    solved = whole.solve(right, 0.1)
    monkeypatch.setattr("locus.engine.optimum.BLOCK_BYTES", 8 * 9 * 300)
    assert len(_blocks(half)) == 4
    parts = Curvature.of(half)
    assert parts.top == pytest.approx(whole.top, rel=1e-12)
    torch.testing.assert_close(parts.solve(right, 0.1), solved, rtol=1e-10, atol=1e-14)
    back = half.double().T @ (half.double() @ solved) + 0.1 * whole.top * solved
    torch.testing.assert_close(back, right, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_no_search_ends_above_the_one_of_a_lower_rank(material, form):
    """Padded with pairs whose b is zero, an edit is one of a higher rank, that says the same; from there the loss only falls."""
    recipe = TrainingRecipe(search="newton", rounds=5)
    shared = FirstOrder(material.model, material.trie, form="free" if form == "free" else "heads")

    def found(edit, starts=()):
        return descend(material, [edit], [recipe], shared, starts=starts)[0][5]

    lower, before = None, float("inf")
    for rank in (1, 2, 4):
        edit = Rank1(material.model.layout, PLACE, rank=rank, **FORMS[form])
        starts = []
        if lower is not None:
            padded = Rank1(material.model.layout, PLACE, rank=rank, **FORMS[form])
            shared.aim(padded, objective_of(material, recipe))
            padded.pad(lower, material.model.weight)
            both = tree_logprobs(material.model, material.trie, [padded.frozen({}), lower])
            torch.testing.assert_close(both[0], both[1], atol=1e-4, rtol=1e-4)
            reads = padded.terms(1).read
            assert torch.equal(reads[: len(lower.layers[1].read)], lower.layers[1].read) and len(reads) == rank
            starts = [[padded]]
        fit = found(edit, starts)
        assert fit.certificate.loss <= before + 1e-4
        lower, before = fit.edit, fit.certificate.loss
    assert before < 25


def test_a_balanced_edit_does_what_it_did(material):
    edit = edit_of(material.model)
    before = tree_logprobs(material.model, material.trie, [edit.frozen({})])
    edit.balance()
    torch.testing.assert_close(tree_logprobs(material.model, material.trie, [edit.frozen({})]), before, atol=1e-4, rtol=1e-4)
    for layer in edit.layers:
        terms = edit._rows(edit.flat.data, layer)
        torch.testing.assert_close(terms[0].norm(dim=1), terms[1].norm(dim=1))


RANKED = {"search": "newton", "rounds": 4, "lengths": (2,), "bank": 3, "ranks": (2, 4)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return wide.settings(tmp_path_factory.mktemp("ranked"), **RANKED)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranked") / "RUN"
    audited(settings, out, 2, page=True)
    return out


def plan_of(out):
    return json.loads((out / "plan.json").read_text())


def test_every_place_is_searched_for_from_its_own_lower_rank(whole):
    trials = {trial["id"]: trial for trial in plan_of(whole)["trials"]}
    for trial in (one for one in trials.values() if one.get("rank", 1) > 1):
        first, *inside = [trials[start] for start in trial["starts"]]
        assert (first.get("rank", 1), first["location"]) == ({2: 1, 4: 2}[trial["rank"]], trial["location"])
        assert first["arm"].partition(":rank-")[0] == trial["arm"].removesuffix(f":rank-{trial['rank']}")
        assert bool(inside) == (trial["role"] in ("ceiling", "complement"))
        assert all(one["rank"] == trial["rank"] for one in inside)
    by_rank = {rank: [one["role"] for one in trials.values() if one.get("rank", 1) == rank] for rank in (1, 2, 4)}
    assert sorted(by_rank[2]) == sorted(by_rank[4]) == sorted(role for role in by_rank[1] if role != "base")
    assert {*by_rank[2]} == {"claim", "random", "ceiling", "complement"} and by_rank[2].count("random") == 2 * 4
    order = [identity for bank in plan_of(whole)["banks"] for identity in bank]
    where = {identity: number for number, bank in enumerate(plan_of(whole)["banks"]) for identity in bank}
    assert all(order.index(start) < order.index(one["id"]) for one in trials.values() for start in one.get("starts", ()))
    assert all(where[start] < where[one["id"]] for one in trials.values() for start in one.get("starts", ()))


def test_the_verdict_is_the_one_by_rank_1_alone(settings, whole, tmp_path):
    """The same trials and the same answers; what is beside them says that no search ended above a lower rank's."""
    audited({**settings, "ranks": ()}, tmp_path / "RUN", 2)
    alone, both = (json.loads((out / "verdict.json").read_text()) for out in (tmp_path / "RUN", whole))
    assert "ranks" not in alone and [one["rank"] for one in both["ranks"]] == [2, 4]
    assert {one["id"] for one in plan_of(tmp_path / "RUN")["trials"]} < {one["id"] for one in plan_of(whole)["trials"]}
    for question in ("works", "special", "unique", "necessary"):
        mine, theirs = (verdict["claims"][0][question] for verdict in (both, alone))
        assert mine["standing"] == theirs["standing"]
        assert mine["estimate"] == pytest.approx(theirs["estimate"], abs=1e-6)
    assert len(both["random"]) == 4 and both["unfinished"] == 0 and both["rule_sha256"] != alone["rule_sha256"]
    for one in both["ranks"]:
        assert one["nested"]["violated"] == 0 and one["nested"]["compared"] >= 7
        assert set(one["share"]) == {"claim", "random", "ceiling", "complement"}
    first, second = (one["share"] for one in both["ranks"])
    assert all(second[role] >= first[role] - 0.01 for role in first)


def test_it_verifies_goes_on_and_can_be_repeated(settings, whole, tmp_path):
    assert verify(whole).kind == "run"
    found = rerun(whole, 2, seed=0, given=Given(model=settings["model"], data=settings["data"]))
    assert found["repeated"] >= 2 and max(found["largest"].values()) == 0
    out = cut_back(whole, tmp_path / "RUN", len(plan_of(whole)["banks"]) // 2)
    audited(settings, out, 2)
    assert content(out) == content(whole)


def test_a_plan_with_other_ranks_than_its_settings_say_does_not_verify(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "RUN")
    plan = plan_of(whole)
    plan["config"]["ranks"] = [2]
    (tmp_path / "RUN" / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(locus.errors.VerificationError):
        verify(tmp_path / "RUN")


def test_what_it_takes_is_foretold_at_most(settings, whole):
    model = load(settings["model"])
    foretold = Forecast(read_plan(whole), behaviours.load(settings["data"]), model).trials()
    store = Store(whole / "trials.sqlite")
    counts = store.costs()
    store.close()
    sizes, higher = Sizes.of(model), {one["id"] for one in plan_of(whole)["trials"] if one.get("rank", 1) > 1}
    assert higher and all("score" in counts[trial] for trial in higher)
    for trial in higher:
        for kind, work in counts[trial].items():
            assert work["macs"] <= foretold[trial][kind].counts(sizes)["macs"] * (1 + 1e-9), kind


def test_a_higher_ranks_edit_speaks_and_is_exported_by_its_name(settings, whole, tmp_path):
    run, model = locus.open_run(whole), load(settings["model"])
    name = plan_of(whole)["claims"][0]["name"]
    assert find_trial(whole, "claim") == find_trial(whole, name) != find_trial(whole, f"{name}:rank-4")
    edit = run.edit(f"{name}:rank-4")
    assert {len(terms.read) for terms in edit.edit.layers.values()} == {4}
    tokens = torch.tensor([[257, 40, 41, 90]])
    with Bank([edit.edit]).attach(model), torch.no_grad():
        hooked = model.hf(tokens).logits
    with edit.attach(model) as hf, torch.no_grad():
        torch.testing.assert_close(hf(tokens).logits, hooked, atol=1e-5, rtol=1e-5)
    export_edit(whole, f"{name}:rank-4", tmp_path / "adapter", opened=model)
    adapter = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (4, 4) and "rank 4" in (tmp_path / "adapter" / "README.md").read_text()
    shapes = {
        name.rsplit(".", 2)[1]: one.shape
        for name, one in tensors_of((tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()).items()
    }
    assert shapes == {"lora_A": (4, 256), "lora_B": (256, 4)}
    frame = run.scores("margin")
    assert set(frame[frame.arm == f"{name}:rank-4"].chosen) == {True, False}


def test_page_and_terminal_say_it(whole):
    from locus.report.page import write
    from locus.report.terminal import verdict_table

    run = locus.open_run(whole)
    said = told(run.verdict.ranks, run.verdict.claims[0], run.verdict.metric)
    assert "of rank 2" in said
    page = write(whole, figures=False, sign=False).read_text()
    assert "The same places by edits of a higher rank" in page and said[:40] in page
    screen = Console(record=True, width=400, file=StringIO())
    verdict_table(screen, run.verdict, run.folder)
    assert said in screen.export_text()
    with recorded(whole) as record:
        assert {arm.trials[0].spec.rank for arm in record.arms if arm.role == "claim"} == {1}, "tables are by edits of rank 1"


def test_an_idle_claim_is_refuted_at_every_rank_and_no_more_is_drawn(tmp_path):
    """Of a planted model, by construction: edits of an idle head do nothing, of whatever rank; six other heads say enough."""
    run = locus.audit(
        "planted:localized:3", claim="0.2", out=tmp_path / "RUN", train=24, progress=False, sign=False, search="newton",
        random=19, rounds=4, ranks=(2,),
    )  # fmt: skip
    (claim,) = run.verdict.claims
    (two,) = run.verdict.ranks
    assert claim.special.standing == two.claims[0].special.standing == "refuted"
    assert run.verdict.drawn.stopped_early and run.verdict.unfinished == 0 and two.claims[0].special.n_random < 19
    verify(run.folder)


def ranked(**standings):
    def one(rank, special):
        claims = (CurveClaim(name="c", read="layer", works=finding(0.0), special=special),)
        nothing = Nested(compared=0, violated=0, most=0.0, beaten={})
        return Ranked(rank=rank, gain={}, share={}, nested=nothing, claims=claims)

    return [one(int(name.removeprefix("of_")), special) for name, special in standings.items()]


def test_whether_special_survives_is_one_sentence():
    claim = claim_of(finding(4.0))
    both = ranked(of_4=finding(3.0), of_16=finding(2.0, reached=0))
    assert told(both, claim, "margin") == (
        "Special survives edits of rank 4 and 16 (lead +3.000 nats, place 1 of 20; +2.000 nats, place 1 of 20)."
    )
    lost = ranked(of_4=finding(3.0), of_16=finding(0.5, "refuted", 6))
    assert told(lost, claim, "margin") == (
        "Special survives edits of rank 4 (lead +3.000 nats, place 1 of 20); by edits of rank 16 it is refuted (lead +0.500 "
        "nats, place 7 of 20)."
    )
    none = ranked(of_4=finding(1.0, "undecided", 3), of_16=finding(None, "invalid"))
    assert told(none, claim, "margin") == (
        "Special does not survive edits of a higher rank; by edits of rank 4 it is undecided (lead +1.000 nats, place 4 of 20); "
        "by edits of rank 16 it is invalid."
    )
    other = claim_of(finding(1.0, "refuted", 9))
    assert told(both, other, "margin").startswith(
        "Special is refuted by edits of rank 1; by edits of rank 4 and 16 it is supported"
    )
    assert told([], claim, "margin") == ""


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ranks": (4, 2)}, "ascending order"),
        ({"ranks": (4, 4)}, "ascending order"),
        ({"ranks": (4,), "reads": ("layer", "constant")}, "constants add up to one"),
        ({"ranks": (4,), "epochs": 2}, "edits of rank 1 alone"),
    ],
)
def test_ranks_that_cannot_be_searched_for_are_refused_before_anything_is_loaded(asked, words):
    with pytest.raises(UserError, match=words):
        early(resolve("quick", claims=("1.1",), **asked))


def test_along_a_direction_there_is_one_rank(tmp_path):
    asked = {"model": "planted:localized:3", "claims": ("means@1",), "search": "newton"}
    with pytest.raises(UserError, match="for directions, of which an edit writes one"):
        check(resolve("quick", **asked, ranks=(4,)), tmp_path / "RUN")
    assert check(resolve("quick", **asked), tmp_path / "RUN").items


def test_rank_1_is_no_rank_to_ask_for():
    with pytest.raises(UserError, match="ranks"):
        resolve("quick", ranks=(1, 4))
    assert resolve("quick").ranks == ()


def test_memory_counts_what_a_higher_rank_holds(whole, settings):
    from locus.plan.trials import MemoryBudget, Trial

    layout = tiny("llama").layout
    one = Trial("claim", "c", "c", PLACE, "rank1", "", read="layer", recipe=TrainingRecipe(search="newton", rounds=5))
    four = Trial(**{**vars(one), "rank": 4, "starts": ("a",)})
    budget = MemoryBudget(answers=100)
    assert budget.takes(four, layout) == 2 * (budget.takes(one, layout) + 2 * 4 * 100 * 4 * 2 * 2 * 48)
    assert np.isfinite(budget.takes(four, layout))
