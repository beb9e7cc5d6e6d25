"""What a model is checked for when it is loaded: every shortcut against the plain path, on this very model.

Nothing downstream can be right if these do not hold. Each check says what was compared and how far apart the two were. A shortcut
that does not hold is switched off by itself; a model is refused only if it does not hold row by row either. Where tokens are sent
to experts, a tie that rounding decides otherwise makes a difference far above what is allowed, and counts as one.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat, TokenSequence
from locus.edits import Edit, Rank1, Terms, ablate
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.cache import Cache
from locus.engine.forward import ResidualCache, edited, prepare_row, sequence_logprobs
from locus.engine.speech import said
from locus.engine.trie import TokenTrie, build_trie
from locus.models.fast import attention, norms
from locus.models.model import Model
from locus.models.points import POINTS
from locus.models.shortcuts import BANKS, CACHE, LAST_MLP, LEFT, PROMPTS, RESIDUALS, SPEECH, TREES
from locus.models.spread import value
from locus.models.windows import spoken_of
from locus.sites.kind import SiteKind, default
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

ITEMS = (
    Item("0", "Which planet is closest to the Sun?", ("Mercury", "It is Mercury"), ("Venus", "It is Venus"), "Mercury", "0"),
    Item("1", "How many legs does an insect have?", ("Six legs",), ("Eight legs", "Ten"), "Six legs", "1"),
)

WINDOW = 600  # tokens: longer windows that only an architecture's own code knows of are not tried


@dataclass(frozen=True)
class Check:
    """One comparison: what was compared, the largest difference, what is allowed, and whether it held.

    Differences are in nats or logits; those of a gradient are shares of its largest entry.

    Attributes:
        name: of what was compared.
        difference: the largest.
        allowed: the most that passes for rounding.
        rests_on: shortcuts that are blamed if it does not hold, the first that is still taken.
        reason: why nothing could be compared; "" if it could.
    """

    name: str
    difference: float
    allowed: float
    rests_on: tuple[str, ...] = ()
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        why = f"; {self.reason}" if self.reason else ""
        return (
            f"{'ok  ' if self.passed else 'FAIL'} {self.name} (difference {self.difference:.1e}, allowed {self.allowed:.0e}{why})"
        )


def plain_logprobs(
    model: Model, sequences: tuple[TokenSequence, ...], side: str = "right", batch: int = 8, grad: bool = False
) -> Tensor:
    """Summed answer log-probs (nats) with one padded row per answer: the slow path that everything is held against.

    It is transformers' own, attention and norms too; with `grad` differentiable in an edit that is attached. Padding behind needs
    no positions, which some models do not take.
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
            placed = {"position_ids": positions.to(model.device)} if side == "left" else {}
            output = model.hf(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device), use_cache=False, **placed)
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


def run_checks(model: Model, text: PromptFormat, kind: SiteKind | None = None) -> list[Check]:
    """All checks, on two questions; a second or two on a small model.

    Args:
        model: the model.
        text: the format of prompts.
        kind: of the sites at which edits are tried; heads by default.

    A shortcut that fails is switched off for this model (`model.off` says why), and what is left is checked again, until it holds
    or there is none left to blame: only what fails row by row as well is a failed check in the end.
    """
    try:
        about = _Material.of(model, text, SiteSpace.of(kind or default(), model.layout))
    except Exception as error:  # whatever an architecture does with a batch, or with an edit
        why = f"{type(error).__name__}: {str(error)[:160]}"
        return [Check("plain rows can be read, and edited", math.inf, 0.0, (), why)]
    while True:
        checks = _checks(model, about)
        blamed = ((one, shortcut) for one in checks if not one.passed for shortcut in one.rests_on if shortcut not in model.off)
        failed, shortcut = next(blamed, (None, ""))
        if failed is None:
            model.checked = True
            return checks
        model.do_without(shortcut, failed.reason or f"{failed.name}: they differ by {failed.difference:.1e}")


Standing = Literal["complete", "in part", "row by row", "refused"]


def standing(model: Model, found: Sequence[Check]) -> Standing:
    """What can be audited of a model whose checks have been run: all, all but for a shortcut, row by row, or nothing."""
    if not all(one.passed for one in found):
        return "refused"
    return "row by row" if not model.trees else "in part" if model.off else "complete"


@dataclass(frozen=True)
class _Material:
    """What checks compare with: two questions in a tree, and what the model says to them in plain rows, as it is and edited."""

    trie: TokenTrie
    plain: Tensor
    edit: Edit
    edited: Tensor
    slow: tuple[Tensor, Tensor]
    space: SiteSpace
    middle: int
    loose: float

    @classmethod
    def of(cls, model: Model, text: PromptFormat, space: SiteSpace) -> "_Material":
        trie = build_trie(model.tokenizer, text, ITEMS)
        middle = space.layers[len(space.layers) // 2]
        edit = _some_edit(space, middle)
        plain = plain_logprobs(model, trie.sequences)
        with Bank([edit]).attach(model):
            edited_plain = plain_logprobs(model, trie.sequences)
        loose = 2e-3 if model.dtype == torch.float32 else 0.6
        return cls(trie, plain, edit, edited_plain, _in_training(model, trie, space, middle), space, middle, loose)


def _checks(model: Model, about: _Material) -> list[Check]:
    """Every shortcut that is not switched off, and what must hold without any."""
    trie, plain, loose = about.trie, about.plain, about.loose
    by_length = sorted(range(len(plain)), key=lambda index: len(trie.sequences[index].ids))
    ends = by_length[:: len(by_length) - 1]  # the shortest and the longest: they are padded most
    unlike = tuple(trie.sequences[index] for index in ends)
    space, noun = about.space, about.space.kind.nouns
    identity = Rank1(model.layout, space.everywhere).frozen({})
    checks: list[Check] = []

    def gap(name: str, rests_on: tuple[str, ...], both: Callable[[], tuple[Tensor, Tensor]], allowed: float = loose) -> None:
        try:
            one, other = both()
            checks.append(Check(name, float((one - other).abs().nan_to_num(math.inf).max()), allowed, rests_on))
        except Exception as error:  # whatever an architecture does with what it was not made for
            checks.append(Check(name, math.inf, allowed, rests_on, f"{type(error).__name__}: {str(error)[:160]}"))

    def takes(*shortcuts: str) -> bool:
        return model.trees and not any(one in model.off for one in shortcuts)

    base = cache(lambda: base_pass(model, trie, layers=[about.middle]))
    trained = cache(lambda: _in_training(model, trie, space, about.middle, base().residuals))
    slow, size = about.slow, max(float(about.slow[1].abs().max()), 1e-2)
    trees, where = ("question trees", "a tree") if model.trees else ("answers row by row", "rows of their own")
    in_tree = f"an edit in {where} equals the same edit in plain rows"
    gap("the identity edit leaves logits as they are", (), lambda: _logits(model, identity), 0.0)
    behind = "projection" if POINTS[space.kind.point].has_map else "module"
    gap(f"zeroing all {noun} equals zeroing the {behind}", (), lambda: _zeroed(model, space))
    gap(f"{trees} equal one row per answer", (TREES,), lambda: (torch.from_numpy(base().logprobs).float(), plain))
    gap("a batch of 1 equals a batch of 8", (), lambda: (plain_logprobs(model, unlike, batch=1), plain[ends]))
    if takes(LEFT):
        left = "left padding equals right padding"
        gap(left, (LEFT,), lambda: (plain_logprobs(model, unlike, side="left"), plain[ends]))
    gap(in_tree, (LAST_MLP, TREES), lambda: (tree_logprobs(model, trie, [about.edit])[0], about.edited))
    if takes(RESIDUALS):
        cached = "starting at a cached layer equals running from the start"
        gap(cached, (RESIDUALS,), lambda: (tree_logprobs(model, trie, [about.edit], base().residuals)[0], about.edited))
    if BANKS not in model.off:
        alone = torch.stack([plain, about.edited])
        gap("a bank of edits equals each alone", (BANKS,), lambda: (tree_logprobs(model, trie, [identity, about.edit]), alone))
    gap("an edit in training says what it says in plain rows", (LAST_MLP, RESIDUALS, TREES), lambda: (trained()[0], slow[0]))
    gradient = "its gradient is that of plain rows, in its largest entry's size"
    gap(gradient, (LAST_MLP, RESIDUALS, TREES), lambda: (trained()[1] / size, slow[1] / size))
    if takes(PROMPTS, BANKS) and model.parts.past is not None:
        gap("edits of answers alone share their prompts", (PROMPTS,), lambda: _sharing_prompts(model, trie, space, about.middle))
    if model.trees and (longer := _beyond(model, trie)):
        gap(f"a tree longer than a window of {longer} equals rows", (TREES,), lambda: _long(model, space, longer))
    texts = [trie.sequences[index].ids for index in ends]
    if takes(SPEECH):
        gap("texts that go on side by side equal being read anew", (SPEECH,), lambda: said(model, texts, SPEECH, space))
    gap("a text that goes on equals being read anew", (CACHE,), lambda: said(model, texts, CACHE, space))
    return checks


def _sharing_prompts(model: Model, trie: TokenTrie, space: SiteSpace, layer: int) -> tuple[Tensor, Tensor]:
    """Two edits of answers alone, whose prompts are run once for both; and each by itself."""
    some, other = (replace(_some_edit(space, layer, seed), positions="answer") for seed in (0, 1))
    apart = [tree_logprobs(model, trie, [one])[0] for one in (some, other)]
    return tree_logprobs(model, trie, [some, other]), torch.stack(apart)


def _beyond(model: Model, trie: TokenTrie) -> int:
    """The longest window that the configuration speaks of and no question here exceeds; 0 if there is none, or none so short."""
    known = max(len(sequence.ids) for sequence in trie.sequences)
    most = min(WINDOW, model.context - 24)
    return max((size for size in spoken_of(model.hf.config) if known - 8 < size <= most), default=0)


def _long(model: Model, space: SiteSpace, size: int) -> tuple[Tensor, Tensor]:
    """A tree of two texts that are longer than a window and part well before it, and the texts in plain rows."""
    draw = torch.Generator().manual_seed(0)
    known = int(model.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    trunk, *branches = (torch.randint(0, known, (count,), generator=draw).tolist() for count in (size // 4, size, size))
    texts = tuple(TokenSequence((*trunk, *branch), size + len(trunk) - 8) for branch in branches)
    nothing = _some_edit(space, space.layers[0], scale=0.0)
    return tree_logprobs(model, TokenTrie(texts), [nothing])[0], plain_logprobs(model, texts)


def _in_training(
    model: Model, trie: TokenTrie, space: SiteSpace, layer: int, held: ResidualCache | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probs of the last question's answers under an edit of some layer and the last, and a gradient, [its parameters].

    As training runs it, with what is held of the base model; in plain rows where nothing is given.
    """
    layout, own = model.layout, space.kind
    edit = Rank1(layout, Location.of(Site(own.name, one) for one in (layer, space.layers[-1])))
    noise = torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(0)) / layout.width(own.point, layer) ** 0.5
    edit.flat.data = noise.to(model.device)
    sequences = trie.sequences_of([len(ITEMS) - 1])
    if held is None:
        with Bank([edit]).attach(model):
            logprobs = plain_logprobs(model, tuple(trie.sequences[index] for index in sequences), grad=True)
    else:
        row = trie.row(sequences, ends=False)
        batch = prepare_row(model, row, trie.targets(row, sequences))
        bank = Bank([edit])
        with bank.attach(model) as bank_state:
            logprobs = sequence_logprobs(model, edited(model, batch, bank, bank_state, held), batch.targets)[0].cpu()
    weights = torch.linspace(1, -1, len(logprobs))
    (gradient,) = torch.autograd.grad((weights * logprobs).sum(), edit.flat)
    return logprobs.detach(), gradient.cpu()


def checked(model: Model, text: PromptFormat, cache: Cache, kind: SiteKind | None = None) -> list[Check]:
    """All checks, or what an earlier run of the same code found of the same model on this machine."""
    code, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(path for room in ("engine", "models", "edits", "sites") for path in (package / room).rglob("*.py")):
        code.update(path.read_bytes())
    key = {"model": model.numerics, "prompt": text.sha256, "code": code.hexdigest(), "sites": (kind or default()).name}
    entry = cache.get("checks", key)
    if entry is not None:
        for shortcut, reason in entry.note["off"].items():
            model.do_without(shortcut, reason)
        model.checked = True
        named = zip(entry.note["checks"], entry.values.tolist(), strict=True)
        return [Check(name, difference, allowed) for (name, allowed), difference in named]
    checks = run_checks(model, text, kind)
    differences = torch.tensor([one.difference for one in checks], dtype=torch.float64)
    if all(one.passed for one in checks):  # what fails is tried again, and says why
        cache.put("checks", key, differences, {"checks": [[one.name, one.allowed] for one in checks], "off": model.off})
    return checks


def _some_edit(space: SiteSpace, layer: int, seed: int = 0, scale: float = 1.0) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    width = space.sizes.width(space.kind.point, layer)
    terms = Terms(read=torch.randn(width, generator=generator) / width, write=scale * torch.randn(width, generator=generator))
    return Edit("rank1", Location.of([Site(space.kind.name, layer)]), space.sizes, {layer: terms})


def _logits(model: Model, edit: Edit) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(1, 9, device=model.device)[None]
    with torch.no_grad():
        before = model.hf(input_ids=tokens).logits
        with Bank([edit]).attach(model):
            after = model.hf(input_ids=tokens).logits
    return after, before


def _zeroed(model: Model, space: SiteSpace) -> tuple[Tensor, Tensor]:
    """Logits with all sites ablated, and with what they feed, or are, set to zero by plain hooks.

    Of a linear map the bias is left. A stream is zero at every layer where it is so at the last, as the layer before leaves it.
    """
    tokens = torch.arange(1, 9, device=model.device)[None]
    everything, point = ablate(model.layout, space.everywhere), POINTS[space.kind.point]
    modules = [model.at(space.kind.point, layer) for layer in space.layers]
    silenced_ones = modules[-2:-1] or modules if point.side == "stream" else modules

    def silence(own: Any) -> Callable[..., Any]:
        bias = value(own, "bias") if point.side == "input" else None

        def zero(_: Any, __: Any, output: Any) -> Any:
            first = torch.zeros_like(output[0] if isinstance(output, tuple) else output) + (0 if bias is None else bias)
            return (first, *output[1:]) if isinstance(output, tuple) else first

        return zero

    with torch.no_grad():
        with Bank([everything]).attach(model):
            ablated = model.hf(input_ids=tokens).logits
        handles = [one.register_forward_hook(silence(one)) for one in silenced_ones]
        try:
            silenced = model.hf(input_ids=tokens).logits
        finally:
            for handle in handles:
                handle.remove()
    return ablated, silenced
