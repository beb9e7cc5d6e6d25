"""What a model is checked for when it is loaded: every shortcut against the plain path, on this very model.

Nothing downstream can be right if these do not hold. Each check says what was compared and how far apart the two were.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat, TokenSequence
from locus.edits import Edit, Rank1, Terms, ablate
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.cache import Cache
from locus.engine.forward import ResidualCache, edited, prepare_row, sequence_logprobs
from locus.engine.trie import TokenTrie, build_trie
from locus.models.fast import attention, norms
from locus.models.model import Model
from locus.sites.site import Location

ITEMS = (
    Item("0", "Which planet is closest to the Sun?", ("Mercury", "It is Mercury"), ("Venus", "It is Venus"), "Mercury", "0"),
    Item("1", "How many legs does an insect have?", ("Six legs",), ("Eight legs", "Ten"), "Six legs", "1"),
)


@dataclass(frozen=True)
class Check:
    """One comparison: what was compared, the largest difference, what is allowed, and whether it held.

    Differences are in nats or logits; those of a gradient are shares of its largest entry.
    """

    name: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.name} (difference {self.difference:.1e}, allowed {self.allowed:.0e})"


def plain_logprobs(
    model: Model, sequences: tuple[TokenSequence, ...], side: str = "right", batch: int = 8, grad: bool = False
) -> Tensor:
    """Summed answer log-probs (nats) with one padded row per answer: the slow path that everything is held against.

    It is transformers' own, attention and norms too; with `grad` differentiable in an edit that is attached.
    """
    logprobs = []
    pad = model.tokenizer.pad_token_id or 0
    for start in range(0, len(sequences), batch):
        group = sequences[start : start + batch]
        longest = max(len(sequence.ids) for sequence in group)
        tokens = torch.full((len(group), longest), pad)
        mask = torch.zeros(len(group), longest, dtype=torch.long)
        for row, sequence in enumerate(group):
            columns = slice(longest - len(sequence.ids), longest) if side == "left" else slice(0, len(sequence.ids))
            tokens[row, columns], mask[row, columns] = torch.tensor(sequence.ids), 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.set_grad_enabled(grad), attention.own(model.hf), norms.own(model.hf):
            output = model.hf(
                input_ids=tokens.to(model.device), attention_mask=mask.to(model.device), position_ids=positions.to(model.device)
            )
        for row, sequence in enumerate(group):
            begin = longest - len(sequence.ids) if side == "left" else 0
            logits = output.logits[row, begin + sequence.start - 1 : begin + len(sequence.ids) - 1].float()
            answer_ids = torch.tensor(sequence.ids[sequence.start :], device=logits.device)
            logprobs.append(logits.log_softmax(-1).gather(1, answer_ids[:, None]).sum().cpu())
    return torch.stack(logprobs)


def tree_logprobs(model: Model, trie: TokenTrie, edits: list[Edit], residual_cache: object = None) -> Tensor:
    """Answer log-probs of all sequences under each edit by the fast path, all in one row; [edits, sequences]."""
    sequences = list(range(len(trie.sequences)))
    row = trie.row(sequences, ends=False)
    batch = prepare_row(model, row, trie.targets(row, sequences))
    bank = Bank(edits)
    with bank.attach(model) as bank_state, torch.no_grad():
        hidden = edited(model, batch, bank, bank_state, residual_cache)  # type: ignore[arg-type]
        return bank.restore_order(sequence_logprobs(model, hidden, batch.targets)).cpu()


def run_checks(model: Model, text: PromptFormat) -> list[Check]:
    """All checks, on two questions; a second or two on a small model."""
    trie = build_trie(model.tokenizer, text, ITEMS)
    loose = 2e-3 if model.dtype == torch.float32 else 0.6
    layout = model.layout
    plain = plain_logprobs(model, trie.sequences)
    by_length = sorted(range(len(plain)), key=lambda index: len(trie.sequences[index].ids))
    ends = by_length[:: len(by_length) - 1]  # the shortest and the longest: they are padded most
    unlike = tuple(trie.sequences[index] for index in ends)

    def gap(name: str, a: Tensor, b: Tensor, allowed: float) -> Check:
        return Check(name, float((a - b).abs().max()), allowed)

    identity = Rank1(layout, Location.everything(layout.n_layers, layout.n_heads)).frozen({})
    middle = layout.n_layers // 2
    edit = _some_edit(model, middle)
    base = base_pass(model, trie, layers=[middle])
    with Bank([edit]).attach(model):
        edited_plain = plain_logprobs(model, trie.sequences)
    checks = [
        gap("the identity edit leaves logits as they are", *_logits(model, identity), 0.0),
        gap("zeroing all heads equals zeroing the projection", *_zeroed(model), loose),
        gap("question trees equal one row per answer", torch.from_numpy(base.logprobs).float(), plain, loose),
        gap("a batch of 1 equals a batch of 8", plain_logprobs(model, unlike, batch=1), plain[ends], loose),
        gap("left padding equals right padding", plain_logprobs(model, unlike, side="left"), plain[ends], loose),
        gap("an edit in a tree equals the same edit in plain rows", tree_logprobs(model, trie, [edit])[0], edited_plain, loose),
        gap(
            "starting at a cached layer equals running from the start",
            tree_logprobs(model, trie, [edit], base.residuals)[0],
            edited_plain,
            loose,
        ),
    ]
    bank_logprobs = tree_logprobs(model, trie, [identity, edit])
    checks.append(gap("a bank of edits equals each alone", bank_logprobs, torch.stack([plain, edited_plain]), loose))
    fast, slow = (_in_training(model, trie, middle, base.residuals if tree else None) for tree in (True, False))
    checks.append(gap("an edit in training says what it says in plain rows", fast[0], slow[0], loose))
    size = max(float(slow[1].abs().max()), 1e-2)
    checks.append(gap("its gradient is that of plain rows, in its largest entry's size", fast[1] / size, slow[1] / size, loose))
    return checks


def _in_training(model: Model, trie: TokenTrie, layer: int, residual_cache: ResidualCache | None) -> tuple[Tensor, Tensor]:
    """Log-probs of the last question's answers under an edit of some layer and the last, and a gradient, [its parameters].

    By the tree, from a cached layer, as training runs it; in plain rows where there is no cached layer.
    """
    layout = model.layout
    edit = Rank1(layout, Location.parse(",".join(sorted({f"{layer}.0", f"{layout.n_layers - 1}.0"}))))
    noise = torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(0)) / layout.d_in**0.5
    edit.flat.data = noise.to(model.device)
    sequences = trie.sequences_of([len(ITEMS) - 1])
    if residual_cache is None:
        with Bank([edit]).attach(model):
            logprobs = plain_logprobs(model, tuple(trie.sequences[index] for index in sequences), grad=True)
    else:
        row = trie.row(sequences, ends=False)
        batch = prepare_row(model, row, trie.targets(row, sequences))
        bank = Bank([edit])
        with bank.attach(model) as bank_state:
            logprobs = sequence_logprobs(model, edited(model, batch, bank, bank_state, residual_cache), batch.targets)[0].cpu()
    weights = torch.linspace(1, -1, len(logprobs))
    (gradient,) = torch.autograd.grad((weights * logprobs).sum(), edit.flat)
    return logprobs.detach(), gradient.cpu()


def checked(model: Model, text: PromptFormat, cache: Cache) -> list[Check]:
    """All checks, or what an earlier run of the same code found of the same model on this machine."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    key = {"model": model.numerics, "prompt": text.sha256, "code": code.hexdigest()}
    entry = cache.get("checks", key)
    if entry is not None:
        return [Check(name, difference, allowed) for (name, allowed), difference in zip(entry.note, entry.values.tolist())]
    checks = run_checks(model, text)
    differences = torch.tensor([one.difference for one in checks], dtype=torch.float64)
    cache.put("checks", key, differences, [[one.name, one.allowed] for one in checks])
    return checks


def _some_edit(model: Model, layer: int) -> Edit:
    generator = torch.Generator().manual_seed(0)
    features = model.layout.d_in
    terms = Terms(read=torch.randn(features, generator=generator) / features, write=torch.randn(features, generator=generator))
    return Edit("rank1", Location.parse(f"{layer}.0"), model.layout, {layer: terms})


def _logits(model: Model, edit: Edit) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(1, 9, device=model.device)[None]
    with torch.no_grad():
        before = model.hf(input_ids=tokens).logits
        with Bank([edit]).attach(model):
            after = model.hf(input_ids=tokens).logits
    return after, before


def _zeroed(model: Model) -> tuple[Tensor, Tensor]:
    """Logits with all heads ablated, and with every output projection's weight set to zero."""
    layout = model.layout
    tokens = torch.arange(1, 9, device=model.device)[None]
    everything = ablate(layout, Location.everything(layout.n_layers, layout.n_heads))

    def silence(projection: torch.nn.Module) -> Callable[..., Tensor]:
        bias = getattr(projection, "bias", None)
        return lambda _, __, output: torch.zeros_like(output) + (0 if bias is None else bias)

    with torch.no_grad():
        with Bank([everything]).attach(model):
            ablated = model.hf(input_ids=tokens).logits
        handles = [projection.register_forward_hook(silence(projection)) for projection in model.projections]
        try:
            silenced = model.hf(input_ids=tokens).logits
        finally:
            for handle in handles:
                handle.remove()
    return ablated, silenced
