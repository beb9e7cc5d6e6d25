"""Which trials share a forward: a byte budget that reckons with what autograd really keeps, whatever else the machine does."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from locus.behaviours.prompts import prompt_format
from locus.claims import Claim
from locus.edits import Rank1
from locus.engine.bank import Bank
from locus.engine.forward import edited, prepare_row
from locus.engine.train import TrainingRecipe
from locus.engine.trie import build_trie
from locus.models.model import Model
from locus.plan.config import resolve
from locus.plan.trials import FIXED, MemoryBudget, Trial, _filled, make
from locus.records.plan import PlanBasis
from locus.sites.site import Location
from tests.families import QUESTIONS, byte_tokenizer


@pytest.fixture(scope="module")
def shaped():
    """Four layers of SmolLM2-135M's shape, random."""
    config = LlamaConfig(
        vocab_size=384, hidden_size=576, intermediate_size=1536, num_hidden_layers=4, num_attention_heads=9, num_key_value_heads=3
    )
    return Model(AutoModelForCausalLM.from_config(config), byte_tokenizer(), "shaped")


def kept(model, edit) -> tuple[int, int]:
    """Bytes that the layers keep for the backward of one edit's row, each storage once and no weight; tokens of the row."""
    trie = build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:3])
    row = trie.row(range(len(trie.sequences)))
    prepared = prepare_row(model, row, trie.targets(row, range(len(trie.sequences))))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.hf.parameters()}
    held = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive, so that no address is used twice
        return tensor

    bank = Bank([edit])
    with bank.attach(model) as bank_state, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        edited(model, prepared, bank, bank_state)
    return sum(size for size, _ in held.values()), len(row)


@pytest.mark.parametrize("first", [0, 2])
def test_the_budget_reckons_with_what_autograd_keeps(shaped, first):
    edit = Rank1(shaped.layout, Location.parse(f"{first}.0"))
    nbytes, tokens = kept(shaped, edit)
    trial = Trial("claim", "x", "x", Location.parse(f"{first}.0"), "rank1", "", recipe=TrainingRecipe())
    # Reckoned is a whole layer; of the last the MLP is kept only where something is predicted.
    assert {0: 0.8, 2: 0.65}[first] < nbytes / MemoryBudget(tokens=tokens).takes(trial, shaped.layout) < 1.1
    with torch.no_grad():
        assert kept(shaped, edit)[0] == 0
    fixed = replace(trial, edit="shift", recipe=None)  # one layer's at a time, of the four or two that it runs through
    assert MemoryBudget(tokens=tokens).takes(fixed, shaped.layout) == MemoryBudget(tokens=tokens).takes(trial, shaped.layout) / (
        4 - first
    )


def plan(**more):
    config = resolve("quick", search="adamw", claims=("0.1,1.2",), random=19, sequential=False, **more)
    claim = Claim("given", Location.parse("0.1,1.2"), "given")
    return lambda layout, room: make(config, layout, [claim], PlanBasis.model_construct(context={}), room)


def test_banks_fill_the_budget_and_no_more(llama):
    """Room for two edits that begin in layer 0: those that begin later take less, so more of them fit."""
    room = MemoryBudget(
        nbytes=2 * 3 * 14 * 32 * 4 * 100, tokens=100
    )  # 2 edits x 3 layers x 14 widths of 32 x 4 bytes x 100 tokens
    made = plan()(llama.layout, room)
    trials = {trial.id: trial for trial in made.trials}
    trained = [[trials[one] for one in bank] for bank in made.banks if trials[bank[0]].recipe]
    for bank in trained:
        assert sum(room.takes(trial, llama.layout) for trial in bank) <= room.nbytes
    assert {len(bank) for bank in trained if bank[-1].first_layer == 0} <= {1, 2}
    assert max(len(bank) for bank in trained) > 2
    assert sorted(one for bank in made.banks for one in bank) == sorted(trials)


def test_one_edit_always_runs_and_the_configuration_has_the_last_word(llama):
    tiny = MemoryBudget(nbytes=1, tokens=100)
    assert {len(bank) for bank in plan()(llama.layout, tiny).banks} == {1}
    assert max(len(bank) for bank in plan(bank=5)(llama.layout, tiny).banks) == 5
    made = plan()(llama.layout, MemoryBudget())
    sizes: dict[bool, int] = {}
    for bank in made.banks:
        trained = made.trial(bank[0]).recipe is not None
        sizes[trained] = max(sizes.get(trained, 0), len(bank))
    assert sizes == {True: MemoryBudget().edits, False: FIXED * MemoryBudget().edits}


def test_banks_are_alike_in_size_where_they_fit_so():
    """19 in banks of at most 3 are 7 banks: five of 3 and two of 2, not six of 3 and one of 1."""
    filled = _filled(list(range(19)), lambda bank: len(bank) <= 3)
    assert [len(bank) for bank in filled] == [3, 3, 3, 3, 3, 2, 2]
    assert [one for bank in filled for one in bank] == list(range(19))
    # Of what takes 5, 5, 1, 1, 1, 1 at most 6 fit: 5 | 5 1 | 1 1 1. Alike in size, the first two would take 10.
    takes = [5, 5, 1, 1, 1, 1]
    assert _filled(takes, lambda bank: sum(bank) <= 6) == [[5], [5, 1], [1, 1, 1]]


def test_the_last_edits_run_one_by_one_where_banks_run_side_by_side(llama):
    """Base, six of ITI, three that are no random Location, and 19 random ones as above, of which the last two are apart."""
    together = [1, 6, 3, 3, 3, 3, 3, 3, 2]
    side_by_side, one_at_a_time = (plan()(llama.layout, MemoryBudget(apart=apart)).banks for apart in (True, False))
    assert [len(bank) for bank in side_by_side] == [*together, 1, 1]
    assert [len(bank) for bank in one_at_a_time] == [*together, 2]
    assert [one for bank in side_by_side for one in bank] == [one for bank in one_at_a_time for one in bank]
    assert len(plan(bank=4)(llama.layout, MemoryBudget()).banks[-1]) > 1, "what the configuration says is kept"
