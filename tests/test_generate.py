"""What the models say is what transformers' own generation says, token for token, however the texts are batched."""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from transformers.generation import TemperatureLogitsWarper, TopPLogitsWarper

from locus.behaviours.prompts import PromptFormat, prompt_format
from locus.edits.base import Edit, Terms
from locus.engine.bank import Bank
from locus.engine.decode import NEW_QUESTION, Generation
from locus.engine.generate import Speech, choose_tokens, end_tokens, generate
from locus.engine.speech import said
from locus.errors import UserError
from locus.machine.threads import using
from locus.models.model import Model
from locus.models.shortcuts import SPEECH
from locus.sites.site import Location
from tests.families import FAMILIES, QUESTIONS, tiny
from tests.test_edits import KINDS, make

PLAIN = PromptFormat("qa", "Q: {question}\nA:", " ", True)
PRIMED = replace(PLAIN, name="primer", template="Q: Is ice cold?\nA: Yes.\n\nQ: {question}\nA:")
PROMPTS = [PRIMED.prompt(item.question) for item in QUESTIONS]
SHORT = Speech(max_new_tokens=12)


@contextmanager
def acting(model, edit):
    """The edit attached; one of the answer alone acts on the last prompt token and on all that follow it."""
    with Bank([edit]).attach(model) as bank_state:

        def place(_, args, kwargs):
            length = kwargs["input_ids"].shape[1]
            bank_state.where = {"answer": (torch.arange(length) == length - 1).float()}

        handle = model.hf.register_forward_pre_hook(place, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def oracle(model, prompt: str, edit=None, settings: Speech = SHORT) -> tuple[int, ...]:
    """transformers' greedy tokens for one prompt, alone in its batch."""
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
    common = {"max_new_tokens": settings.max_new_tokens, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    if edit is None:
        out = model.hf.generate(ids, **common)
    else:
        with acting(model, edit):
            out = model.hf.generate(ids, **common)
    return tuple(out[0, ids.shape[1] :].tolist())


def agree(model, prompt: str, edit, said: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether two greedy texts are the same, up to where two tokens are equally likely to the last bits of a float32.

    Which of the two is taken depends on the processor; what follows is then another text.
    """
    if said == wanted:
        return True
    first = next((place for place, pair in enumerate(zip(said, wanted, strict=False)) if pair[0] != pair[1]), None)
    if first is None:  # one is the beginning of the other
        return False
    ids = torch.tensor([[*model.tokenizer(prompt)["input_ids"], *wanted[:first]]])
    with acting(model, edit), torch.no_grad():
        logits = model.hf(input_ids=ids, use_cache=False).logits[0, -1]
    return bool((logits.max() - logits[[said[first], wanted[first]]] < 1e-5).all())


@cache
def untied(family: str) -> Model:
    """A tiny model with a vocabulary head of its own: one that shares the embedding mostly repeats the last token."""
    model = tiny(family)
    if model.head.weight is not model.hf.get_input_embeddings().weight:
        return model
    hf = deepcopy(model.hf)
    hf.config.tie_word_embeddings = False
    fresh = torch.empty_like(hf.lm_head.weight).normal_(0, 0.3, generator=torch.Generator().manual_seed(2))
    hf.lm_head.weight = torch.nn.Parameter(fresh)
    return Model(hf, model.tokenizer, model.name)


@pytest.fixture(params=FAMILIES)
def speaker(request):
    """A tiny model of each family that has something to say."""
    return untied(request.param)


def tokens(said: list[list[Generation]]) -> list[list[tuple[int, ...]]]:
    return [[one.tokens for one in row] for row in said]


def test_the_base_model_speaks_as_in_transformers(speaker):
    said = generate(speaker, PROMPTS, [], PRIMED, SHORT)
    assert tokens(said) == [[oracle(speaker, prompt) for prompt in PROMPTS]]
    assert len({one.tokens for one in said[0]}) > 1, "models that say the same to all prompts would prove nothing"


@pytest.mark.parametrize("positions", ["all", "answer"])
def test_a_bank_speaks_as_each_of_its_edits_alone_in_transformers(speaker, positions):
    edits = [make(kind, speaker, seed=seed) for seed, kind in enumerate(KINDS)]
    edits = [replace(edit, positions=positions) for edit in edits]
    prompts = PROMPTS[:3]
    said = tokens(generate(speaker, prompts, edits, PRIMED, SHORT))
    for edit, row in zip(edits, said, strict=True):
        for prompt, words in zip(prompts, row, strict=True):
            assert agree(speaker, prompt, edit, words, oracle(speaker, prompt, edit)), (edit.kind, prompt)
    assert len({tuple(row) for row in said}) >= 3, "edits that change nothing would prove nothing"


@contextmanager
def ending_at(model, extra: set[int]):
    """More tokens end a text, for us and for transformers alike."""
    kept = model.hf.generation_config.eos_token_id
    model.hf.generation_config.eos_token_id = [kept, *extra]
    try:
        yield
    finally:
        model.hf.generation_config.eos_token_id = kept


def common_token(model) -> int:
    """A token that some texts of the base model have, and none begins with."""
    said = [one.tokens for one in generate(model, PROMPTS, [], PRIMED, SHORT)[0]]
    first = {words[0] for words in said}
    counts = {token: sum(token in words for words in said) for words in said for token in words if token not in first}
    return max(sorted(counts), key=counts.__getitem__)


def test_rows_that_end_leave_and_the_next_take_their_place(llama):
    edits = [replace(make(kind, llama, strength=0.3), positions=at) for kind in KINDS[:3] for at in ("all", "answer")]
    stop = common_token(llama)
    with ending_at(llama, {stop}):
        alone = [[oracle(llama, prompt, edit) for prompt in PROMPTS] for edit in edits]
        lengths = {len(words) for row in alone for words in row}
        assert len(lengths) > 2, "texts of one length would leave no place early"
        for rows in (1, 4, 7, 64):
            said = generate(llama, PROMPTS, edits, PRIMED, SHORT, rows=rows)
            assert tokens(said) == alone, rows
    for one in (one for row in said for one in row):
        assert one.stopped == ("end" if one.tokens[-1] == stop else "length")
        assert one.stopped == "end" or len(one.tokens) == SHORT.max_new_tokens


def test_alone_and_in_any_order_and_company_the_words_are_the_same(speaker):
    edits = [make("rank1-layer", speaker), replace(make("shift", speaker), positions="answer")]
    together = tokens(generate(speaker, PROMPTS, edits, PRIMED, SHORT))
    assert [row[::-1] for row in tokens(generate(speaker, PROMPTS[::-1], edits, PRIMED, SHORT))] == together
    assert tokens(generate(speaker, PROMPTS, edits[::-1], PRIMED, SHORT))[::-1] == together
    assert tokens(generate(speaker, PROMPTS[2:3], edits[1:], PRIMED, SHORT)) == [[together[1][2]]]
    twice = generate(speaker, [PROMPTS[0], PROMPTS[0]], edits[:1], PRIMED, SHORT)
    assert twice[0][0] == twice[0][1]


@pytest.mark.parametrize("prompt", ["", "?"])
def test_the_shortest_prompts(speaker, prompt):
    # "" is the beginning-of-text token alone: nothing is read before the token that predicts the first word.
    bare = PromptFormat("bare", "{question}", " ", True)
    mixed = [prompt, "A longer one", "B"]
    assert tokens(generate(speaker, mixed, [], bare, SHORT)) == [[oracle(speaker, text) for text in mixed]]
    assert tokens(generate(speaker, mixed[:1], [], bare, SHORT)) == [[oracle(speaker, prompt)]]


def test_a_trainable_edit_speaks_with_its_present_terms(llama):
    from locus.edits import full

    edit = full(llama.layout)
    before = tokens(generate(llama, PROMPTS, [edit], PRIMED, SHORT))
    with torch.no_grad():
        edit.flat.add_(0.1)
    after = tokens(generate(llama, PROMPTS, [edit], PRIMED, SHORT))
    assert before == tokens(generate(llama, PROMPTS, [], PRIMED, SHORT))  # b = 0 is the base model
    assert after == [[oracle(llama, prompt, edit) for prompt in PROMPTS]] != before


def test_what_edits_share_is_read_once(llama, monkeypatch):
    monkeypatch.setattr(llama, "checked", True)  # else it is first seen how it can speak
    monkeypatch.setattr(llama, "speaks", (True, True))
    monkeypatch.setattr("locus.engine.decode.READ", 1 << 20)
    ran, layer = [], Model.layer

    def spied(self, index, hidden, *rest):
        ran.append((index, *hidden.shape[:2]))
        return layer(self, index, hidden, *rest)

    monkeypatch.setattr(Model, "layer", spied)
    make_at = {"all": [2, 1], "answer": [0, 1]}
    edits = [
        Edit("shift", Location.parse(f"{at}.0"), llama.layout, {at: Terms(shift=torch.ones(llama.layout.d_in(at)))}, positions)
        for positions, layers in make_at.items()
        for at in layers
    ]
    with using(1):  # else the questions are dealt to two
        generate(llama, PROMPTS, edits, PRIMED, SHORT)
    shared = len("Q: Is ice cold?\nA: Yes.\n\nQ: ") + 1  # one token a byte, and the beginning-of-text token
    texts = len(PROMPTS)
    # The base model's states serve both edits of the answer to the end, those of all tokens below their first layers, 1 and 2.
    beginning, questions = ran[:3], ran[3:]
    assert beginning == [(0, 1, shared), (1, 2, shared), (2, 3, shared)]
    assert [one[:2] for one in questions] == [(0, texts), (1, 2 * texts), (2, 3 * texts)]


def test_a_new_question_is_cut_off_and_a_word_is_not(llama, monkeypatch):
    letters = iter(llama.tokenizer(" Yes, see FAQ: 2.\nQ: And then", add_special_tokens=False)["input_ids"])
    monkeypatch.setattr("locus.engine.generate.choose_tokens", lambda logits, *_: torch.full((len(logits),), next(letters)))
    said = generate(llama, PROMPTS[:2], [], PRIMED)[0]
    assert {(one.text, one.stopped, len(one.tokens)) for one in said} == {("Yes, see FAQ: 2.", "question", 20)}
    assert NEW_QUESTION.search("Q: What?") and not NEW_QUESTION.search("FAQ: none")


def test_drawing_has_the_distribution_of_transformers_warpers():
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0, 0.5, -2.0]])
    for temperature, top_p in ((1.0, 1.0), (0.7, 0.9), (1.5, 0.5), (1.0, 0.01)):
        warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, logits)).softmax(-1)[0]
        grid = (torch.arange(10_000) + 0.5) / 10_000
        drawn = choose_tokens(logits.expand(len(grid), -1), Speech(sample=True, temperature=temperature, top_p=top_p), grid)
        # An even grid gives each token its probability, give or take one grid step at both ends of its stretch.
        assert (torch.bincount(drawn, minlength=6) / len(grid) - warped).abs().max() <= 2e-4
        assert set(drawn.tolist()) == set(warped.nonzero()[:, 0].tolist())
    top = choose_tokens(logits, Speech(sample=True), torch.tensor([1.0]))
    assert top.item() == 5, "a number rounded up to one means the least likely token kept"


def test_draws_depend_on_the_seed_and_the_prompt_alone(llama):
    drawn = replace(SHORT, sample=True, temperature=3.0)
    edits = [make("shift", llama), make("full", llama, strength=0.0)]
    first = tokens(generate(llama, PROMPTS, edits, PRIMED, drawn))
    assert tokens(generate(llama, PROMPTS, edits, PRIMED, drawn, rows=3)) == first
    assert tokens(generate(llama, PROMPTS[::-1], edits[1:], PRIMED, drawn))[0][::-1] == first[1]
    assert tokens(generate(llama, PROMPTS, edits, PRIMED, replace(drawn, seed=1))) != first
    assert tokens(generate(llama, PROMPTS, [], PRIMED, drawn))[0] == first[1], "all edits share a prompt's draws"
    greedy = tokens(generate(llama, PROMPTS, edits, PRIMED, SHORT))
    assert tokens(generate(llama, PROMPTS, edits, PRIMED, replace(drawn, top_p=1e-6))) == greedy != first


def test_the_model_is_itself_afterwards(model):
    ids = torch.tensor([[1, 7, 42, 99]])
    with torch.no_grad():
        before = model.hf(input_ids=ids).logits
        generate(model, PROMPTS[:2], [make("full", model)], PRIMED, SHORT)
        assert torch.equal(model.hf(input_ids=ids).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())


def test_progress_counts_every_text(llama):
    told: list[float] = []
    edits = [make("shift", llama, seed=seed) for seed in range(3)]
    generate(llama, PROMPTS[:4], edits, PRIMED, SHORT, rows=2, progress=told.append)
    assert told == pytest.approx([(k + 1) / 12 for k in range(12)])


def test_no_prompts_are_no_texts(llama):
    assert generate(llama, [], [make("shift", llama)] * 2, PRIMED) == [[], []]
    assert generate(llama, [], [], PRIMED) == [[]]


def test_what_a_chat_template_puts_after_an_answer_ends_a_text(llama):
    tokenizer = tiny("llama").tokenizer
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}<pad>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
    )
    try:
        assert end_tokens(llama, prompt_format(tokenizer, "chat")) == {258, 256}
        assert end_tokens(llama, PRIMED) == {258}
    finally:
        tokenizer.chat_template = None


def test_what_cannot_be_done_is_refused(llama):
    with pytest.raises(UserError, match="leaves 50 of the model's 512 tokens"):
        generate(llama, ["x" * 470], [], PRIMED)
    with pytest.raises(UserError, match="at least one token"):
        generate(llama, [""], [], replace(PRIMED, special_tokens=False))
    for wrong in ({"max_new_tokens": 0}, {"temperature": 0.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(UserError, match="greedy"):
            Speech(**wrong)


@pytest.mark.parametrize("common", [0, 5])
def test_slots_reproduce_the_plain_forward(model, common):
    # Texts of 9 and 14 tokens, alike in the first five or not: logits of the unpadded forward, edited and not.
    draw = torch.Generator().manual_seed(3)
    begin, *rest = (torch.randint(0, 250, (length,), generator=draw).tolist() for length in (common, 9 - common, 14 - common))
    found, plain = said(model, [[*begin, *one] for one in rest], SPEECH)
    torch.testing.assert_close(found, plain, atol=2e-4, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_where_rows_are_dealt_to_threads_each_says_the_same(llama):
    edits = [make("rank1-layer", llama), replace(make("shift", llama), positions="answer")]
    with using(1):
        alone = tokens(generate(llama, PROMPTS, edits, PRIMED, SHORT))
    with using(3):
        assert tokens(generate(llama, PROMPTS, edits, PRIMED, SHORT)) == alone
        assert tokens(generate(llama, PROMPTS, edits, PRIMED, SHORT, rows=3)) == alone
