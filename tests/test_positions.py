"""Sites that act at some tokens: names, masks in every forward, the search, speech, claims and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import locus
from locus.behaviours.jsonl import load_jsonl
from locus.behaviours.prompts import TokenSequence, encode, prompt_format
from locus.claims import given
from locus.edits import Rank1, ablate, load_edit
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.checks import plain_logprobs, tree_logprobs
from locus.engine.descent import descend
from locus.engine.generate import Speech, end_tokens
from locus.engine.linear import answers_of, gradients_of, jacobian_of
from locus.engine.optimum import FirstOrder
from locus.engine.train import TrainingRecipe, train
from locus.engine.training_set import TrainingSet
from locus.engine.trie import TokenTrie, build_trie
from locus.errors import UserError
from locus.judges.speech import speak
from locus.models.points import POINTS
from locus.sites import Location, Site, SiteSpace, kind_of
from locus.sites.positions import words
from tests.families import QUESTIONS, tiny

WORDS = ("planet", "legs", "capital", "whale", "Hamlet", "pandas", "metal", "emerald")
MARKED = tuple(
    replace(item, spans={"subject": (item.question.index(word), item.question.index(word) + len(word))})
    for item, word in zip(QUESTIONS, WORDS, strict=True)
)
AT = ("answer", "last", "subject")
KINDS = ("head", "neuron", "attn", "mlp", "resid")


def trie_of(model, items=MARKED[:2], at="subject"):
    return build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items, at)


def some_edit(model, kind, *layers, seed=1):
    space = SiteSpace.of(kind, model.layout)
    edit = Rank1(model.layout, Location.of(Site(kind, layer, space.counts[layer] - 1) for layer in layers))
    noise = torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(seed))
    edit.flat.data = noise / edit.flat.numel() ** 0.5
    return edit


def acts(sequence, at):
    """[T], where it is that an edit acts on one text."""
    places = torch.arange(len(sequence.ids))
    return {"answer": places >= sequence.start - 1, "last": places == sequence.start - 1, "subject": places == sequence.mark}[at]


def by_hand(model, edit, sequence, seen=None):
    """Log-prob of one answer in a row of its own, under plain hooks that write at some tokens alone."""
    point, handles = POINTS[edit.point], []
    where = acts(sequence, edit.positions)[None, :, None].float()
    for layer in edit.layers:
        own = model.hf.get_submodule(point.path(model.parts.layers[layer]))

        def changed(o, layer=layer):
            terms = edit.terms(layer)
            if seen is not None:
                seen[layer] = o.detach().clone()
            return o + where * ((o @ terms.read.T) @ terms.write)

        def entering(_, args, kwargs, changed=changed, key=model.parts.stream):
            if isinstance(key, str):
                return args, {**kwargs, key: changed(kwargs[key])}
            return (*args[:key], changed(args[key]), *args[key + 1 :]), kwargs

        if point.side == "input":
            handles.append(own.register_forward_pre_hook(lambda _, args, changed=changed: (changed(args[0]),)))
        elif point.side == "output":
            handles.append(own.register_forward_hook(lambda _, __, output, changed=changed: changed(output)))
        else:
            handles.append(own.register_forward_pre_hook(entering, with_kwargs=True))
    try:
        return plain_logprobs(model, [sequence], grad=True)[0]
    finally:
        for handle in handles:
            handle.remove()


def test_names_are_read_as_they_are_written():
    for name in ("mlp.17@subject", "12.3@last", "attn.2@answer", "resid.4@s2", "n2.5-7@subject"):
        location = Location.parse(name)
        assert location.names == [name] and given(name).location == location and location.kind.endswith(name.split("@")[1])
    assert Location.parse("L12H3@last") == Location.parse("12.3@last") != Location.parse("12.3")
    assert Location.parse("mlp.7@all") == Location.parse("mlp.7") and kind_of("mlp@all") is kind_of("mlp")
    own = kind_of("mlp@subject")
    assert (
        own.noun == "MLP at the last token of the subject" and not kind_of("head@last").calibrated and own.plain is kind_of("mlp")
    )
    for wrong in ("mlp.7@", "mlp.7@Subject", "mlp.7@12", "mlp.7@a@b", "mlp@7", "mlp.7@subject,mlp.8", "mlp.7@last,mlp.8@subject"):
        with pytest.raises(UserError):
            given(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_ceiling_rest_and_random_places_act_where_the_claim_does(kind):
    space = SiteSpace.of(f"{kind}@subject", tiny("llama").layout)
    plain = SiteSpace.of(kind, tiny("llama").layout)
    claim = Location((space.everywhere.sites[-1],))
    for place in (space.everywhere, space.rest(claim), *space.draw(claim, 2, 0)):
        assert place.kind == f"{kind}@subject" and Rank1(space.sizes, place).positions == "subject"
    bare = [[(site.layer, site.index) for site in one.sites] for one in plain.draw(Location((plain.everywhere.sites[-1],)), 2, 0)]
    assert [[(site.layer, site.index) for site in one.sites] for one in space.draw(claim, 2, 0)] == bare


OTHERS = [("gpt2", "last"), ("gemma3", "subject"), ("mamba", "subject")]


@pytest.mark.parametrize(("family", "at"), [*(("llama", at) for at in AT), *OTHERS])
@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_and_its_gradient_are_those_of_plain_hooks(family, at, kind):
    model = tiny(family)
    try:
        edit = some_edit(model, f"{kind}@{at}", 0, 1)
    except UserError:
        pytest.skip("no such sites")
    trie = trie_of(model)
    plain = torch.stack([by_hand(model, edit, sequence) for sequence in trie.sequences])
    (slow,) = torch.autograd.grad(plain.sum(), edit.flat)
    base = base_pass(model, trie, layers=[0, 1])
    other = some_edit(model, kind, 1, seed=2)  # at all tokens, in the same bank
    fast = tree_logprobs(model, trie, [edit, other], base.residuals)
    torch.testing.assert_close(fast[0], plain.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(tree_logprobs(model, trie, [edit, edit])[1], plain.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(fast[1], tree_logprobs(model, trie, [other])[0], atol=1e-4, rtol=1e-4)
    assert float((plain.detach() - torch.from_numpy(base.logprobs).float()).abs().max()) > 1e-4, "the edit does something"
    parts = [gradients_of(model, part, list(edit.layers), edit) for part in answers_of(trie, range(len(trie.sequences)))]
    jacobian, logprobs = jacobian_of(edit, parts, len(trie.sequences))
    torch.testing.assert_close(logprobs.float(), plain.detach(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(jacobian.sum(dim=0), slow, atol=2e-4 * float(slow.abs().max()) + 1e-6, rtol=1e-3)


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("kind", KINDS)
def test_other_tokens_are_as_they_were_bit_for_bit(at, kind):
    """What is at a site is changed at its tokens alone, and what comes before them is changed nowhere."""
    model = tiny("llama")
    edit, sequence = some_edit(model, f"{kind}@{at}", 1).frozen({}), trie_of(model).sequences[0]
    zone, point = acts(sequence, at), kind_of(kind).point
    tokens, seen = torch.tensor([sequence.ids]), []

    def look(o):
        seen.append(o.detach().clone())
        return o

    with torch.no_grad():
        for attached in (False, True):
            with Bank([edit]).attach(model) as state:
                state.active = int(attached)
                state.where = {at: zone.float()}
                handle = model.attach(point, 1, look)  # behind the edit's own hook
                model.hf(input_ids=tokens)
                handle.remove()
    before, after = seen
    assert torch.equal(before[0, ~zone], after[0, ~zone]) and not torch.equal(before[0, zone], after[0, zone])
    seen.clear()
    deeper = model.layout.n_layers - 1
    with torch.no_grad():
        for attached in (False, True):
            with Bank([edit]).attach(model) as state:
                state.active, state.where = int(attached), {at: zone.float()}
                handle = model.attach(point, deeper, look)
                model.hf(input_ids=tokens)
                handle.remove()
    first = int(zone.int().argmax())
    assert torch.equal(seen[0][0, :first], seen[1][0, :first]) and not torch.equal(seen[0][0, first:], seen[1][0, first:])


@pytest.mark.parametrize("at", AT)
def test_both_searches_write_there_alone_and_keep_the_laws_of_places(at, tmp_path):
    model, kind = tiny("llama"), f"mlp@{at}"
    trie = trie_of(model, MARKED[:4])
    base = base_pass(model, trie, layers=[0, 1, 2])
    on = TrainingSet(model, trie, MARKED[:4], base.logprobs, base.residuals)
    space = SiteSpace.of(kind, model.layout)
    claim, recipe = Location.parse(f"mlp.1@{at}"), TrainingRecipe(search="newton", rounds=6)
    shared = FirstOrder(model, trie, point=space.kind.point)
    (mine,) = (fits[6] for fits in descend(on, [Rank1(model.layout, claim)], [recipe], shared))
    assert mine.certificate.loss < mine.certificate.start
    padded = Rank1(model.layout, space.everywhere)
    padded.pad(mine.edit, lambda layer: model.weight(layer, space.kind.point))
    (whole,) = (fits[6] for fits in descend(on, [Rank1(model.layout, space.everywhere)], [recipe], shared, starts=[[padded]]))
    assert whole.certificate.loss <= mine.certificate.loss * (1 + 1e-5)
    (stepped,) = train(on, [Rank1(model.layout, claim)], [TrainingRecipe(lr=1e-2, epochs=2, batch=2)])
    for fit in (mine, stepped):
        assert fit.edit.positions == at
        told = torch.stack([by_hand(model, fit.edit, sequence) for sequence in trie.sequences])
        torch.testing.assert_close(tree_logprobs(model, trie, [fit.edit])[0], told.detach(), atol=5e-4, rtol=1e-4)
    mine.edit.save(tmp_path / "edit")
    back = load_edit(tmp_path / "edit")
    assert back.positions == at and back.location == claim
    assert ablate(model.layout, claim).positions == at


def test_a_beginning_is_shared_only_where_the_span_ends_alike():
    """A token that ends one question's subject and not another's is a node of its own."""
    texts = [TokenSequence((1, 2, 3, 7), 3, 1), TokenSequence((1, 2, 4, 7), 3, 2)]
    shared, apart = TokenTrie(texts, [0, 1]), TokenTrie(texts, [0, 1], span="subject")
    assert len(shared) == 6 and len(apart) == 8 and shared.masks.keys() == {"answer", "last"}
    assert [path.tolist() for path in apart.paths] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert np.flatnonzero(apart.masks["subject"]).tolist() == [1, 6] and np.flatnonzero(apart.masks["last"]).tolist() == [2, 6]
    alike = TokenTrie([texts[0], TokenSequence((1, 2, 4, 7), 3, 1)], [0, 1], span="subject")
    assert len(alike) == 6 and alike.sha256 == TokenTrie(alike.sequences, [0, 1]).sha256


@pytest.mark.parametrize("way", ["qa", "bare", "primer"])
def test_the_last_token_of_a_span_is_found_in_every_format(way):
    model = tiny("llama")
    text = prompt_format(model.tokenizer, way)
    for item in MARKED:
        low, high = item.spans["subject"]
        sequence = encode(model.tokenizer, text, item.question, item.best, (low, high))
        assert sequence.mark is not None and sequence.mark < sequence.start
        upto = model.tokenizer.decode(sequence.ids[: sequence.mark + 1], skip_special_tokens=True)
        before = model.tokenizer.decode(sequence.ids[: sequence.mark], skip_special_tokens=True)
        begin = text.template.index("{question}") + high
        whole = text.prompt(item.question)[:begin]
        assert "".join(before.split()) in "".join(whole.split()) and len("".join(upto.split())) >= len("".join(whole.split())) - 1


@pytest.mark.parametrize("family", ["llama", "mamba"])
@pytest.mark.parametrize("at", ["last", "subject"])
def test_edits_at_one_token_speak_as_texts_that_are_read_whole(family, at):
    model = tiny(family)
    text = prompt_format(model.tokenizer, "qa")
    edit = some_edit(model, f"resid@{at}", 0, 1).frozen({})
    edit = replace(edit, layers={layer: replace(terms, write=4000 * terms.write) for layer, terms in edit.layers.items()})
    said = speak(model, MARKED, [edit], text, Speech(max_new_tokens=6))[0]
    plain = speak(model, MARKED, [], text, Speech(max_new_tokens=6))[0]
    by_hand_said = []
    for item in MARKED:
        sequence = encode(model.tokenizer, text, item.question, "x", item.spans["subject"])
        ids = model.tokenizer(text.prompt(item.question))["input_ids"]
        length = len(ids)
        place = length - 1 if at == "last" else sequence.mark
        for _ in range(6):
            with torch.no_grad(), Bank([edit]).attach(model) as state:
                state.where = {at: (torch.arange(len(ids)) == place).float()}
                ids = [*ids, int(model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
        stop = next((step for step in range(length, len(ids)) if ids[step] in end_tokens(model, text)), len(ids))
        ids = ids[:stop]
        by_hand_said.append(model.tokenizer.decode(ids[length:], skip_special_tokens=True).strip())
    assert said == by_hand_said
    assert said != plain


SMALL = {"train": 8, "validation": 4, "test": 8, "text_passages": 2, "shift_random": 0, "iti_strengths": (5.0,), "judge": "none"}
SMALL |= {"search": "newton", "rounds": 3, "lengths": (), "alpha": 0.34, "least_gain": 0.001, "random": 3}
PLANTED = "planted:localized:3"


@pytest.fixture(scope="module")
def marked():
    """The planted questions, of which the first word is marked."""
    rows = []
    for item in locus.behaviour(PLANTED).items:
        rows.append({**item.to_dict(), "spans": {"subject": [0, len(item.question.split()[0])]}})
    return locus.behaviour(rows)


@pytest.mark.parametrize("claim", ["n1.3@last", "attn.1@subject"])
def test_an_audit_at_a_token_comes_to_numbers_and_goes_on(claim, marked, tmp_path):
    at, claims = claim.partition("@")[2], [claim, "probe"] if claim.startswith("n") else [claim]
    given = {"claim": claims, "claim_size": 1, "prompt": "bare", "out": tmp_path / "RUN", "progress": False}
    run = locus.audit(PLANTED, marked, **given, **{**SMALL, "random": 5 if len(claims) > 1 else 3})
    mine = run.verdict.claims[0]
    assert mine.location == (claim,) and mine.sentence.startswith("No verdict")
    assert {one.kind for one in run.verdict.claims} == {Location.parse(claim).kind}
    scores = run.scores()
    text = scores[(scores.split == "text") & scores.trial.isin(scores[scores.arm == "given"].trial)]
    assert len(text) and text.value.isna().all() and text.reason.str.contains("ordinary text has no token").all()
    assert scores[scores.split == "test"].value.notna().any()
    assert words(at) in (run.folder / "report.html").read_text()
    assert [one.special for one in locus.verify(run.folder).claims] == [one.special.standing for one in run.verdict.claims]
    with (
        pytest.raises(UserError, match="one at the last"),
        run.edit("claim/given/layer" if len(claims) > 1 else "claim").attach(locus.load(PLANTED)),
    ):
        pass


def test_what_marks_no_span_is_refused_in_a_sentence(tmp_path, marked):
    with pytest.raises(UserError, match="questions that mark their subject"):
        locus.audit(PLANTED, claim="mlp.1@subject", out=tmp_path / "RUN", progress=False, **SMALL)
    with pytest.raises(UserError, match="questions that mark their object"):
        locus.plan(PLANTED, marked, claim="mlp.1@object", **SMALL)


def test_spans_are_read_from_lines_and_are_no_part_of_what_data_are_known_by(tmp_path):
    path = tmp_path / "lines.jsonl"
    line = '{"question": " Is Paris in France?", "true": ["Yes"], "false": ["No"], "spans": %s}\n'
    path.write_text(line % '{"subject": "Paris", "place": [13, 19]}')
    (item,) = load_jsonl(str(path)).items
    assert {name: item.question[slice(*span)] for name, span in item.spans.items()} == {"subject": "Paris", "place": "France"}
    saved = locus.behaviour(str(path)).save(tmp_path / "again.jsonl")
    assert load_jsonl(str(saved)).items[0].spans == item.spans
    path.write_text(line % "{}")
    assert locus.behaviour(str(path)).dataset.sha256 == locus.behaviour(str(saved)).dataset.sha256
    for wrong in (
        '{"subject": "Rome"}',
        '{"subject": "a"}',
        '{"last": "Paris"}',
        '{"subject": [3, 99]}',
        '{"subject": 3}',
        '["Paris"]',
    ):
        path.write_text(line % wrong)
        with pytest.raises(UserError, match="span"):
            load_jsonl(str(path))


@pytest.mark.parametrize("name", ["task:factual", "task:ioi:30", "task:greater-than:30", "agreement", "hedging"])
def test_behaviours_that_have_a_subject_mark_it(name):
    span = {"task:ioi:30": "s2", "task:greater-than:30": "year"}.get(name, "subject")
    for item in locus.behaviour(name).items:
        low, high = item.spans[span]
        assert item.question[low:high].strip() == item.question[low:high] != ""
        assert span != "year" or item.question[low:high].isdigit()
