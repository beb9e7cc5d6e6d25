"""Question trees equal one row per answer, whatever the shapes; edits and cached layers do not change that."""

import copy

import numpy as np
import pytest
import torch

from locus.behaviours.items import Item
from locus.behaviours.prompts import TokenSequence, encode, prompt_format
from locus.edits import Edit, Rank1, Terms
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.checks import plain_logprobs, run_checks
from locus.engine.cost import Tally, Work
from locus.engine.forward import edited, prepare_row, sequence_logprobs
from locus.engine.trie import TokenTrie, build_trie
from locus.errors import UserError
from locus.metrics.choice import score
from locus.models.fast import attention, norms
from locus.models.model import Model
from locus.sites.site import Location
from locus.sites.space import SiteSpace
from tests.families import FAMILIES, byte_tokenizer, tiny

HOSTILE = {
    "one-token answers": [((5, 6, 7), [(8,), (9,)])],
    "one answer": [((5, 6, 7), [(8, 9)])],
    "a prompt of one token": [((5,), [(8, 9), (8, 10, 11)])],
    "duplicate answers": [((5, 6), [(8, 9), (8, 9), (7,)])],
    "one answer begins another": [((5, 6), [(8,), (8, 9), (8, 9, 10)])],
    "one question begins another": [((5, 6), [(8, 9), (10,)]), ((5, 6, 8), [(9, 3), (11,)])],
    "equal questions": [((5, 6), [(8,), (9,)]), ((5, 6), [(8,), (10,)])],
    "nothing in common": [((5, 6), [(8,), (9,)]), ((7, 6), [(8, 3)])],
    "a long answer": [((5, 6), [tuple(range(20, 60)), (9,)])],
}


def build(questions) -> TokenTrie:
    sequences, owners = [], []
    for owner, (prompt, answers) in enumerate(questions):
        for answer in answers:
            sequences.append(TokenSequence(prompt + answer, len(prompt)))
            owners.append(owner)
    return TokenTrie(sequences, owners)


@pytest.fixture(scope="module", params=[*FAMILIES, "llama-kv3"])
def shaped(request):
    """Every family, and a model with three key-value heads."""
    return tiny(request.param)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_shapes_equal_plain_rows(shaped, name):
    trie = build(HOSTILE[name])
    plain = plain_logprobs(shaped, trie.sequences)
    middle = base_pass(shaped, trie, layers=[0, 1, 2], tokens=16)
    torch.testing.assert_close(torch.from_numpy(middle.logprobs).float(), plain, rtol=1e-4, atol=2e-4)
    edit = Rank1(shaped.layout, Location.parse("1.0,2.2"), seed=1)
    with torch.no_grad():
        edit.flat.add_(torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(0)) * 0.2)
    fixed = edit.frozen({})
    with Bank([fixed]).attach(shaped):
        expected = plain_logprobs(shaped, trie.sequences)
    for residual_cache in (None, middle.residuals):
        found = score(shaped, middle.prepared, [fixed], len(trie.sequences), residual_cache=residual_cache)
        torch.testing.assert_close(torch.from_numpy(found[0]).float(), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", HOSTILE)
def test_edits_of_the_answer_share_what_leads_to_it(shaped, name):
    """A bank of them runs it once, as in the base shaped, and gives each edit what plain rows give."""
    trie = build(HOSTILE[name])
    edits = [answer_edit(shaped, place, seed) for seed, place in enumerate(("2.1", "0.0,1.2", "1.0", "0.3"))]
    expected = torch.stack([answer_logprobs(shaped, trie.sequences, edit) for edit in edits])
    found = base_pass(shaped, trie, layers=[0, 2], tokens=16)  # what enters layer 1 has to be computed
    for residual_cache in (None, found.residuals):
        together = score(shaped, found.prepared, edits, len(trie.sequences), residual_cache=residual_cache)
        torch.testing.assert_close(torch.from_numpy(together).float(), expected, rtol=1e-4, atol=2e-4)


def answer_edit(model, place: str, seed: int, scale: float = 0.5) -> Edit:
    draw = torch.Generator().manual_seed(seed)
    features = model.layout.d_in(0)
    location = Location.parse(place)
    layers = {
        layer: Terms(
            shift=scale * torch.randn(features, generator=draw),
            read=torch.randn(features, generator=draw) / features,
            write=scale * torch.randn(features, generator=draw),
        )
        for layer in location.layers
    }
    return Edit("shift", location, model.layout, layers, "answer")


def answer_logprobs(model, sequences, edit: Edit) -> torch.Tensor:
    """One plain row per answer; the edit acts from the last prompt token on."""
    found = []
    with Bank([edit]).attach(model) as bank_state, torch.no_grad():
        for sequence in sequences:
            ids, start = torch.tensor(sequence.ids), sequence.start
            bank_state.where = {"answer": (torch.arange(len(ids)) >= start - 1).float()}
            logprobs = model.hf(input_ids=ids[None]).logits[0].log_softmax(-1)
            found.append(logprobs[torch.arange(start - 1, len(ids) - 1), ids[start:]].sum())
    return torch.stack(found)


def test_what_leads_to_answers_is_run_once_for_a_bank(llama):
    """By hand: prompts of 3 and 3 tokens, their last ones and the answers' first ones in the zone. Rows have 3 + 3 more."""
    trie = build([((5, 6, 7), [(8, 9), (10,)]), ((5, 7, 7), [(8, 9)])])
    prepared = base_pass(llama, trie).prepared
    # Tokens: 5, then 6 7 8 and 7 7 8 (last answer tokens are not run). In the zone: 7 8 and 7 8; before it: 5 6 7.
    assert [len(one.row) for one in prepared] == [7] and prepared[0].row.answer_mask.sum() == 4
    edits = [answer_edit(llama, place, 0) for place in ("0.0", "0.1", "1.0")]
    run: list[tuple[int, int]] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, args, number=number: run.append((number, args[0].shape[0] * args[0].shape[1])))
        for number, layer in enumerate(llama.layers)
    ]
    tally = Tally(3)
    score(llama, prepared, edits, 3, tally=tally)
    for handle in handles:
        handle.remove()
    # Layer 0: 3 tokens once, 4 for two edits, and the base row's 7 for the third, which joins in layer 1.
    by_layer = [sum(count for number, count in run if number == layer) for layer in range(3)]
    assert by_layer == [3 + 2 * 4 + 7, 3 + 3 * 4, 3 + 3 * 4]
    work = sum((one["score"] for one in tally.by_edit), Work())
    assert work.layers == pytest.approx(sum(by_layer))


def test_gradients_go_through_answers_alone_as_through_whole_rows(model, monkeypatch):
    trie = build(HOSTILE["one answer begins another"] + HOSTILE["duplicate answers"])
    sequences = list(range(len(trie.sequences)))
    row = trie.row(sequences, ends=False)
    prepared = prepare_row(model, row, trie.targets(row, sequences))
    gradients = []
    for apart in (True, False):
        if not apart:
            monkeypatch.setattr("locus.engine.forward.leads", lambda model, row, bank: False)
        edits = [Rank1(model.layout, Location.parse(place), seed=2) for place in ("1.1,2.0", "0.2")]
        for edit in edits:
            edit.positions = "answer"
        with Bank(edits).attach(model) as bank_state:
            bank = Bank(edits)
            logprobs = bank.restore_order(sequence_logprobs(model, edited(model, prepared, bank, bank_state), prepared.targets))
        gradients.append(torch.autograd.grad(logprobs.square().sum(), [edit.flat for edit in edits]))
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_gradients_equal_those_of_plain_rows(model):
    """The gradient with respect to an edit, through trees, cached layers and the chunked head, against autograd on plain rows."""
    trie = build(HOSTILE["one answer begins another"] + HOSTILE["duplicate answers"])
    weights = torch.tensor([0.3, -1.0, 2.0, 0.7, -0.2, 1.1])
    gradients = []
    for fast in (True, False):
        edit = Rank1(model.layout, Location.parse("1.1,2.0"), seed=2)
        with torch.no_grad():
            edit.flat.add_(torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(0)) * 0.2)
        with Bank([edit]).attach(model) as bank_state:
            if fast:
                residual_cache = base_pass(model, trie, layers=[1]).residuals
                row = trie.row(range(6), ends=False)
                prepared = prepare_row(model, row, trie.targets(row, range(6)))
                hidden = edited(model, prepared, Bank([edit]), bank_state, residual_cache)
                logprobs = sequence_logprobs(model, hidden, prepared.targets)[0]
            else:
                logprobs = plain_logprobs(model, trie.sequences, grad=True)
            (logprobs * weights).sum().backward()
        gradients.append(edit.flat.grad)
    scale = gradients[1].abs().max()
    torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, rtol=1e-3, atol=2e-5)


def test_the_self_check_passes_on_every_family(model):
    for one in run_checks(model, prompt_format(model.tokenizer)):
        assert one.passed, str(one)


def test_the_self_check_sees_what_only_training_takes(llama, monkeypatch):
    """Plain products and the norms' way back are taken on the way to a gradient alone: no other check passes there."""
    text, inner, backward = prompt_format(llama.tokenizer), attention.products, norms._Normed.backward
    model = anew(llama)
    monkeypatch.setattr(attention, "products", lambda *args: 1.1 * inner(*args))
    assert all(one.passed for one in run_checks(model, text)), "row by row, which takes transformers' own attention"
    assert model.off.keys() == {"trees"} and model.off["trees"].startswith("an edit in training says what it says in plain rows")
    monkeypatch.undo()
    model = anew(llama)
    monkeypatch.setattr(norms._Normed, "backward", staticmethod(lambda ctx, grad: backward(ctx, 1.1 * grad)))
    failed = {one.name for one in run_checks(model, text) if not one.passed}
    assert failed == {"its gradient is that of plain rows, in its largest entry's size"}, "norms are the same row by row"


def anew(model):
    """The same model with all its shortcuts."""
    return Model(copy.deepcopy(model.hf), model.tokenizer, model.name)


def test_a_forest_holds_each_prefix_once():
    trie = build([((1, 2), [(3, 4), (3, 5)]), ((1, 6), [(7,)])])
    # nodes: 1, 2, 3, 4, 5, 6, 7; plain rows would hold 4 + 4 + 3 tokens
    assert len(trie) == 7 and trie.n_plain == 11
    assert trie.tokens.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert trie.positions.tolist() == [0, 1, 2, 3, 3, 1, 2]
    row = trie.row([1, 2])
    assert row.tokens.tolist() == [1, 2, 3, 5, 6, 7]
    # 5 sees 1, 2, 3 and itself, not the other question
    assert row.sees[3].tolist() == [True, True, True, True, False, False]
    assert row.sees[5].tolist() == [True, False, False, False, True, True]
    targets = trie.targets(row, [1, 2])
    # answers (3, 5) and (7): predicted from tokens 2, 3 and 6, which stand at row positions 1, 2, 4
    assert targets.predictors.tolist() == [1, 2, 4]
    assert targets.token.tolist() == [3, 5, 7] and targets.sequence.tolist() == [0, 0, 1]


def test_last_tokens_are_left_out_where_nothing_follows_them():
    # Answers (3, 4), (3) and (5): 4 and 5 are read by nobody, 3 predicts 4.
    trie = build([((1, 2), [(3, 4), (3,), (5,)])])
    row = trie.row([0, 1, 2], ends=False)
    assert row.tokens.tolist() == [1, 2, 3]
    targets = trie.targets(row, [0, 1, 2])
    assert targets.predictors.tolist() == [1, 2] and targets.token.tolist() == [3, 4, 3, 5]
    assert trie.row([1, 2], ends=False).tokens.tolist() == [1, 2]


def test_sharing_stops_where_a_question_begins_another():
    trie = build(HOSTILE["one question begins another"])
    for sequence, path in zip(trie.sequences, trie.paths, strict=True):
        assert trie.answer_mask[path[sequence.start - 1 :]].all()
        assert not trie.answer_mask[path[: sequence.start - 1]].any()


def test_packing_respects_the_budget_and_the_order():
    questions = [((1, number), [(7, 8), (9,)]) for number in range(10, 20)]  # 1 shared + 4 nodes a question
    trie = build(questions)
    packs = trie.pack(range(10), 13)
    assert packs == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert all(trie.size(pack) <= 13 for pack in packs)
    assert trie.pack([0], 2) == [[0]]  # a question longer than the budget still gets its row


def test_a_long_primer_makes_longer_rows():
    """Ten questions of 4 nodes after a primer of 20: a budget of 30 would run the primer 5 times, four primers hold all ten."""
    primer = tuple(range(100, 120))
    trie = build([((*primer, number), [(7, 8), (9,)]) for number in range(10)])
    assert trie.shared == 20 and trie.pack(range(10), 30) == [list(range(10))]
    assert build([((1, 2), [(3,)]), ((4, 2), [(3,)])]).shared == 0


def test_answers_are_found_by_offsets(llama):
    text = prompt_format(llama.tokenizer, "qa")
    coded = encode(llama.tokenizer, text, "Why?", "So")
    # one token a byte after <s>: "Q: Why?\nA:" is 10 bytes, then " So"
    assert coded.start == 11 and len(coded.ids) == 14
    assert llama.tokenizer.decode(coded.ids[coded.start :]) == " So"
    with pytest.raises(UserError, match="at least one token"):
        encode(llama.tokenizer, prompt_format(llama.tokenizer, "bare"), "Why?", "")


def test_a_prompt_without_any_token_is_refused():
    with pytest.raises(UserError, match="before the answer"):
        encode(byte_tokenizer(bos=False), prompt_format(byte_tokenizer(), "bare"), "", "x")


def test_chat_is_refused_without_a_template(llama):
    with pytest.raises(UserError, match="chat template"):
        prompt_format(llama.tokenizer, "chat")
    assert prompt_format(llama.tokenizer).name == "qa"
    llama.tokenizer.chat_template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}|"
    try:
        chat = prompt_format(llama.tokenizer)
        assert (chat.name, chat.template, chat.special_tokens) == ("chat", "<s>{question}|", False)
        assert chat.sha256 != prompt_format(llama.tokenizer, "qa").sha256
    finally:
        llama.tokenizer.chat_template = None


def test_features_are_the_projection_inputs(model, items):
    """Head outputs at an answer's last token equal what a plain forward feeds the projection there."""
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), items[:2])
    found = base_pass(model, trie, features=SiteSpace.of("head", model.layout)).features
    for index in (0, 3):
        seen = {}
        handles = [
            projection.register_forward_pre_hook(lambda _, args, layer=layer, seen=seen: seen.__setitem__(layer, args[0][0, -1]))
            for layer, projection in enumerate(model.projections)
        ]
        with torch.no_grad():
            model.hf(input_ids=torch.tensor([trie.sequences[index].ids]))
        for handle in handles:
            handle.remove()
        expected = torch.stack([seen[layer] for layer in range(3)]).view(3, model.layout.n_heads, -1).numpy()
        np.testing.assert_allclose(found[index], expected, rtol=1e-4, atol=2e-5)


def test_a_question_longer_than_the_window_still_agrees():
    model = tiny("mistral")  # a window of 7 tokens
    item = Item("x", "a question far longer than seven tokens?", ("yes it is",), ("no",), "yes it is", "x")
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), [item])
    torch.testing.assert_close(
        torch.from_numpy(base_pass(model, trie).logprobs).float(), plain_logprobs(model, trie.sequences), rtol=1e-4, atol=2e-4
    )
