"""A model as locus runs it beside the same model run plainly: by transformers' own forward, with a hook of a few lines."""

from typing import Any

import torch
from torch import Tensor

from locus.behaviours.prompts import TokenSequence
from locus.edits import Rank1
from locus.engine.bank import Bank
from locus.engine.forward import edited, prepare_row, sequence_logprobs
from locus.engine.trie import TokenTrie
from locus.models.fast import attention, norms
from locus.models.model import Model
from locus.sites.site import Location

TOKENS, START = 30, 12


def tokens_of(model: Model, length: int = TOKENS) -> list[int]:
    """Tokens of a text, drawn from a seed."""
    known = int(model.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    return torch.randint(3, min(known, 250), (length,), generator=torch.Generator().manual_seed(3)).tolist()


def logits_gap(model: Model) -> float:
    """The largest difference of logits between locus' forward and transformers' own."""
    tokens = torch.tensor(tokens_of(model))[None]
    count = tokens.shape[1]
    with torch.no_grad():
        if model.trees:
            entry = model.calls(tokens, torch.arange(count)[None], torch.ones(1, count, count, dtype=torch.bool).tril())
            hidden = entry.hidden
            for layer in range(model.layout.n_layers):
                hidden = model.layer(layer, hidden, entry)
        else:
            hidden = model.read(tokens, torch.ones_like(tokens, dtype=torch.bool))
        ours = model.logits(hidden)
        with attention.own(model.hf), norms.own(model.hf):
            plain = model.hf(input_ids=tokens, use_cache=False).logits.float()
    return float((ours - plain).abs().max())


def gradient_gap(model: Model) -> float:
    """The largest difference of a rank-1 edit's gradient from that of plain autograd, as a share of its largest entry."""
    layout, ids = model.layout, tokens_of(model)
    layers = sorted({layout.headed[0], layout.headed[-1]})
    edit = Rank1(layout, Location.parse(",".join(f"{layer}.0" for layer in layers)))
    edit.flat.data = torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    trie = TokenTrie([TokenSequence(tuple(ids), START)])
    row = trie.row([0], ends=False)
    prepared, bank = prepare_row(model, row, trie.targets(row, [0])), Bank([edit])
    with bank.attach(model) as bank_state:
        ours = sequence_logprobs(model, edited(model, prepared, bank, bank_state), prepared.targets)[0, 0]
    (mine,) = torch.autograd.grad(ours, edit.flat)
    with attention.own(model.hf), norms.own(model.hf):
        (plain,) = torch.autograd.grad(_plain(model, edit, layers, ids), edit.flat)
    return float((mine - plain).abs().max() / plain.abs().max().clamp_min(1e-6))


def _plain(model: Model, edit: Rank1, layers: list[int], ids: list[int]) -> Tensor:
    """The log-prob of what follows the start, with o + <a, o> b in a hook on transformers' own modules."""
    modules: Any = dict(model.hf.named_modules())

    def hook(layer: int) -> Any:
        def before(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            begin, width = sum(2 * model.layout.d_in(one) for one in layers if one < layer), model.layout.d_in(layer)
            a, b = edit.flat[begin : begin + width], edit.flat[begin + width : begin + 2 * width]
            head = torch.zeros(width)
            head[: model.layout.layer(layer).d_head] = 1.0
            return (args[0] + (args[0] @ a)[..., None] * (b * head), *args[1:])

        return before

    handles = [modules[model.parts.layers[layer].output].register_forward_pre_hook(hook(layer)) for layer in layers]
    try:
        logits = model.hf(input_ids=torch.tensor(ids)[None], use_cache=False).logits[0].float()
    finally:
        for handle in handles:
            handle.remove()
    logprobs: Tensor = logits[START - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(ids[START:])[:, None]).sum()
