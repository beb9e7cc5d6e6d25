"""Attention a stretch at a time equals attention over the whole row, and is used where it should be."""

import numpy as np
import pytest
import torch

from locus.behaviours.prompts import TokenSequence
from locus.engine.forward import layer_inputs as forward_entry
from locus.engine.trie import TokenTrie
from locus.models.fast import attention
from locus.models.model import Model


def trie(questions: int, answers: int, length: int, seed: int = 0) -> TokenTrie:
    """Questions of twelve tokens behind eight shared ones, each with some answers."""
    draw = np.random.default_rng(seed)
    shared = draw.integers(90, size=8).tolist()
    sequences, owners = [], []
    for owner in range(questions):
        question = shared + draw.integers(90, size=12).tolist()
        for _ in range(answers):
            sequences.append(TokenSequence(tuple(question + draw.integers(90, size=length).tolist()), len(question)))
            owners.append(owner)
    return TokenTrie(sequences, owners)


def test_a_stretch_lists_all_it_sees_and_stretches_make_up_the_row():
    row = trie(6, 4, 9).row(range(24))
    found = attention.cut(row.sees)
    assert len(found) > 2 and sum(length for length, _ in found) == len(row.tokens)
    start = 0
    for length, seen in found:
        others = np.setdiff1d(np.arange(len(row.tokens)), seen)
        assert (
            not row.sees[start : start + length][:, others].any() and row.sees[start : start + length][:, seen].any(axis=0).all()
        )
        start += length
    # By hand: a row of 8 + 6 (12 + 4 * 9) = 296 tokens is cut in round(296 / 64) = 5.
    assert len(row.tokens) == 296 and len(found) == 5


@pytest.mark.parametrize("sees", [np.tri(40, dtype=bool), np.tri(70, dtype=bool), np.ones((1, 1), dtype=bool)])
def test_a_row_is_left_whole_where_cutting_it_saves_little(sees):
    assert attention.cut(sees) == []


def test_stretches_give_what_the_whole_row_gives_and_the_same_gradient():
    sees = trie(6, 4, 9).row(range(24)).sees
    mask = torch.zeros(sees.shape).masked_fill_(~torch.from_numpy(sees), float("-inf"))[None, None]
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups = 3  # type: ignore[assignment]
    tensors = [torch.randn(2, heads, len(sees), 16, requires_grad=True) for heads in (6, 2, 2)]
    weights = torch.randn(2, len(sees), 6, 16)
    found = []
    for one in (mask, attention.attach(mask.clone(), attention.cut(sees))):
        out, _ = attention.attend(module, *tensors, one)
        found.append((out, *torch.autograd.grad((out * weights).sum(), tensors)))
    assert hasattr(one, "stretches"), "the second was cut"
    for whole, cut in zip(*found, strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("seen", [40, 64])
def test_plain_products_are_sdpa_and_are_used_on_the_way_to_a_gradient(monkeypatch, scaling, seen):
    torch.manual_seed(1)
    mask = torch.zeros(1, 1, 40, seen).masked_fill_(torch.rand(1, 1, 40, seen) < 0.3, float("-inf"))
    mask[..., 0] = 0  # every query sees something
    module = torch.nn.Module()
    module.num_key_value_groups = 2  # type: ignore[assignment]
    query = torch.randn(3, 40, 4, 12).transpose(1, 2).requires_grad_()  # laid out as transformers lays them out
    key, value = (torch.randn(3, seen, 2, 12).transpose(1, 2).requires_grad_() for _ in range(2))
    weights, found, used = torch.randn(3, 40, 4, 12), [], []
    inner = attention.products
    monkeypatch.setattr(attention, "products", lambda *args: used.append(1) or inner(*args))
    for few in (attention.FEW, 0):
        monkeypatch.setattr(attention, "FEW", few)
        out, _ = attention.attend(module, query, key, value, mask, scaling=scaling)
        found.append((out, *torch.autograd.grad((out * weights).sum(), (query, key, value))))
        assert len(used) == 1
    with torch.no_grad():
        monkeypatch.setattr(attention, "FEW", 256)
        attention.attend(module, query.detach(), key, value, mask, scaling=scaling)
    assert len(used) == 1, "what is only scored keeps SDPA"
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_every_family_with_sdpa_runs_rows_in_stretches(model: Model, monkeypatch):
    """And gives the log-probs that it gives without; a family that cannot use SDPA keeps its own attention."""
    trees = trie(6, 4, 9)
    row = trees.row(range(24))
    taken = []
    inner = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda self, *args: taken.append(1) or inner(self, *args))
    with torch.no_grad():
        results = []
        for worth in (attention.WORTH, 0.0):
            monkeypatch.setattr(attention, "WORTH", worth)
            entry = forward_entry(model, row)
            before, hidden = len(taken), entry.hidden
            for layer in range(model.layout.n_layers):
                hidden = model.layer(layer, hidden, entry)
            results.append(hidden)
            assert (len(taken) > before) == (worth > 0 and not model.eager)
    torch.testing.assert_close(*results, atol=1e-5 * float(results[0].abs().max()), rtol=0)
