"""What an audit is run on: the model, its questions by part, and one reading of them all by the base model."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from locus.behaviours.items import SPLITS, Dataset, Item, Split
from locus.behaviours.prompts import PromptFormat
from locus.claims.book import Book
from locus.claims.probe import Features, collect
from locus.edits import Directions, directions
from locus.edits.rank1 import Rank1Form
from locus.engine.activations import BasePass, base_pass
from locus.engine.cache import NONE, Cache
from locus.engine.cost import Tally
from locus.engine.manifold import Manifold, fit
from locus.engine.optimum import FirstOrder
from locus.engine.training_set import TrainingSet
from locus.engine.trie import TokenTrie, build_trie
from locus.judges.kind import AnyJudge
from locus.machine.threads import Arithmetic
from locus.metrics.drift import DriftText, text_trie
from locus.models.model import Model
from locus.models.shortcuts import BANKS
from locus.models.spread import room
from locus.plan.config import AuditConfig
from locus.plan.trials import MemoryBudget
from locus.sites.space import SiteSpace

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ReadItems:
    """Items of one part of the split with their question trees and what the base model made of them."""

    items: tuple[Item, ...]
    trie: TokenTrie
    base: BasePass


@dataclass(frozen=True)
class Elsewhere:
    """Test questions on which edits are scored besides, and nothing is trained or chosen.

    Attributes:
        split: under which a store has their scores.
        items: the questions.
        prompt: how they are put.
        dataset: the behaviour that they are of; None for the audited one in another prompt format.
    """

    split: str
    items: tuple[Item, ...]
    prompt: PromptFormat
    dataset: Dataset | None = None


@dataclass
class AuditContext:
    """Everything trials are run on.

    Attributes:
        model: the model.
        config: the configuration.
        split: of the behaviour's questions.
        items: the questions that are used, by part.
        prompt: how they are put.
        sample: texts for drift, if any.
        checked: the load checks, in words.
        cache: on disk, of what the base model computed.
        judge: of what edited models say, if anybody judges.
        arithmetic: how many threads compute what.
        parts: train, validation and test, read once by the base model; empty before `read_questions`, as is all that follows.
        space: the places of the kind that is audited.
        features: what is at its sites, of training and validation answers.
        steer: ITI's directions from them.
        book: what claimed and random directions stand for, where directions are audited.
        texts: the base model's pass over the texts for drift, if any are read.
        tally: the base model's passes, as the work of one edit.
        linear: the base model's linearisation by the form of edits, once it was asked for.
        usual: where the base model's activations lie, once it was asked for.
        elsewhere: where edits are scored besides: other prompt formats, other behaviours.
        read_elsewhere: by split, those questions read once by the base model.
    """

    model: Model
    config: AuditConfig
    split: Split
    items: dict[str, tuple[Item, ...]]
    prompt: PromptFormat
    sample: DriftText | None
    checked: tuple[str, ...]
    space: SiteSpace
    cache: Cache = NONE
    judge: AnyJudge | None = None
    arithmetic: Arithmetic = field(default_factory=Arithmetic.here)
    parts: dict[str, ReadItems] = field(default_factory=dict)
    texts: BasePass | None = None
    tally: Tally = field(default_factory=Tally)
    linear: dict[str, FirstOrder] = field(default_factory=dict)
    usual: Manifold | None = None
    book: Book | None = None
    elsewhere: tuple[Elsewhere, ...] = ()
    read_elsewhere: dict[str, ReadItems] = field(default_factory=dict)
    features: Features = field(init=False)
    steer: Directions = field(init=False)

    @property
    def training_set(self) -> TrainingSet:
        """What edits are trained on."""
        part = self.parts["train"]
        return TrainingSet(self.model, part.trie, part.items, part.base.logprobs, part.base.residuals, self.config.tokens)

    @property
    def taus(self) -> tuple[float, ...]:
        """The values of tau that are tried: as the settings say, or as the unedited model's own margins ask for."""
        return (self.training_set.typical_tau(self.config.reduce),) if self.config.taus == "auto" else self.config.taus

    def first_order(self, form: Rank1Form) -> FirstOrder:
        """The base model's linearisation at the training questions, with the threads of all that is the base model's."""
        if form not in self.linear:
            with self.arithmetic.whole():
                trie, point = self.parts["train"].trie, self.space.kind.point
                self.linear[form] = FirstOrder(self.model, trie, form, seed=self.config.seed, point=point)
            self.tally.add("linearise", [0], self.linear[form].work)
        return self.linear[form]

    def manifold(self) -> Manifold | None:
        """Where the base model's activations lie, with the threads of all that is the base model's; None if not asked for."""
        if self.usual is None and self.config.off_manifold:
            with self.arithmetic.whole():
                known = [self.parts[name].base for name in ("train", "validation")]
                self.usual = fit(self.model, known, self.parts["test"].base, self.tally)
        return self.usual


def choose(dataset: Dataset, split: Split, config: AuditConfig) -> dict[str, tuple[Item, ...]]:
    """The items of each part, cut to the sizes asked for by a seeded draw."""
    chosen = {}
    for number, name in enumerate(SPLITS):
        indices = np.array(split.part(name))
        wanted = getattr(config, name)
        if wanted is not None and wanted < len(indices):
            indices = np.sort(np.random.default_rng([config.seed, number]).choice(indices, size=wanted, replace=False))
        chosen[name] = tuple(dataset.items[index] for index in indices)
    return chosen


def read_questions(context: AuditContext, progress: Progress) -> AuditContext:
    """Run the base model over all parts: references, features, and the residual streams that edits share."""
    model, config = context.model, context.config
    at = context.space.kind.at
    tries = {name: build_trie(model.tokenizer, context.prompt, context.items[name], at) for name in SPLITS}
    if context.sample is not None:
        tries[TEXT] = text_trie(model, context.sample, config.text_tokens)
    asked = {one.split: (one.items, build_trie(model.tokenizer, one.prompt, one.items, at)) for one in context.elsewhere}
    held = layers_held(context, sum(map(len, (*tries.values(), *(trie for _, trie in asked.values())))))
    base_passes, tally = {}, Tally()
    for number, (name, trie) in enumerate(tries.items()):

        def say(share: float, number: int = number) -> None:
            progress("reading the questions", (number + share) / len(tries))

        layers = [*held, model.layout.n_layers] if name == TEXT else held
        wanted = context.space if featured(name, config) else None
        base_passes[name] = base_pass(
            model, trie, layers=layers, features=wanted, tokens=config.tokens, progress=say, cache=context.cache, tally=tally
        )
    context.parts = {name: ReadItems(context.items[name], tries[name], base_passes[name]) for name in SPLITS}
    for split, (items, trie) in asked.items():
        read = base_pass(model, trie, layers=held, tokens=config.tokens, cache=context.cache, tally=tally)
        context.read_elsewhere[split] = ReadItems(items, trie, read)
    context.texts, context.tally = base_passes.get(TEXT), tally
    context.features = _features(context, tally)
    context.steer = directions(context.features.bank, context.features.truth, context.features.spread)
    if context.space.kind.around:
        context.book = Book({}, context.features, config.seed)
    return context


def featured(name: str, config: AuditConfig) -> bool:
    """Whether probes are fitted on the answers of a part."""
    return name in ("train", "validation") and config.features != "next_question"


TEXT = "text"
MEMORY = 4 << 30  # bytes of base residuals held at once where they cannot lie on disk


def layers_held(context: AuditContext, nodes: int) -> list[int]:
    """The layers whose residuals are kept: the plan's; in a new one as many as there is room for, deep ones, which save most."""
    model, limit = context.model, context.cache.limit // 2 if context.cache.limit else MEMORY
    count = context.arithmetic.held or max(1, limit // max(1, nodes * model.layout.d_model * model.dtype.itemsize))
    return list(range(model.layout.n_layers))[-count:]


def memory_budget(context: AuditContext) -> MemoryBudget:
    """What a training forward may hold on this device: 1 GiB and 3 edits on a CPU, half the memory and 64 edits on a GPU."""
    return budget_of(context.model, context.config, context.parts["train"].trie)


def budget_of(model: Model, config: AuditConfig, trie: TokenTrie, memory: int | None = None) -> MemoryBudget:
    """The same, from the trees of the training questions, and on a device of some memory where that is not the model's own."""
    longest = max(_longest(model, trie, owner) for owner in set(trie.owners.tolist()))
    tokens, itemsize = max(longest, min(config.tokens, config.batch * longest)), model.dtype.itemsize
    budget = MemoryBudget(tokens=tokens, itemsize=itemsize, answers=len(trie.sequences))
    if model.device.type == "cpu" and memory is None:
        return replace(budget, edits=1 if BANKS in model.off else 3)
    nbytes = (room(model.hf, model.device) if memory is None else memory) // 2
    return replace(budget, nbytes=nbytes, edits=1 if BANKS in model.off else 64, apart=False)


def _longest(model: Model, trie: TokenTrie, owner: int) -> int:
    """Tokens that one question takes: of its tree, or of all its texts where the model is run row by row."""
    if model.trees:
        return trie.size([owner])
    lengths = [len(trie.sequences[index].ids) for index in trie.sequences_of([owner])]
    return len(lengths) * max(lengths)


def _features(context: AuditContext, tally: Tally) -> Features:
    """What is at the sites, of training and validation answers; those of the answers themselves come from the base passes."""
    config, parts = context.config, context.parts
    items = parts["train"].items + parts["validation"].items
    answers = None
    if config.features != "next_question":
        banks = [parts[name].base.features for name in ("train", "validation")]
        answers = np.concatenate([bank for bank in banks if bank is not None])
    return collect(
        context.model,
        items,
        context.prompt,
        config.features,
        config.seed,
        answers,
        config.tokens,
        context.cache,
        tally,
        context.space,
    )


def spoken_parts(config: AuditConfig) -> tuple[str, ...]:
    """The parts whose questions are answered and judged."""
    return ("validation", "test") if config.judge_validation else ("test",)


def scored_parts(config: AuditConfig, trained: bool) -> tuple[str, ...]:
    """The parts on which an edit is scored. Validation questions only choose: with one setting there is nothing to choose."""
    single = config.grid * len(config.full_forms) == 1
    return ("test",) if single and trained else ("validation", "test")
