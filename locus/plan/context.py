"""What an audit is run on: the model, its questions by part, and one reading of them all by the base model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from locus.behaviours.items import SPLITS, Dataset, Item, Split
from locus.behaviours.prompts import PromptFormat
from locus.claims.probe import Features, collect
from locus.edits import Directions, directions
from locus.engine.activations import Survey, survey
from locus.engine.cache import NONE, Cache
from locus.engine.cost import Tally
from locus.engine.trie import Forest, plant
from locus.judges.base import Judge
from locus.machine.threads import Arithmetic
from locus.metrics.drift import Text, text_forest
from locus.models.model import Model
from locus.plan.config import AuditConfig
from locus.plan.trials import Room

Progress = Callable[[str, float], None]


@dataclass
class Part:
    """One split's items with their question trees and what the base model said of them."""

    items: tuple[Item, ...]
    forest: Forest
    found: Survey


@dataclass(frozen=True)
class Stage:
    """What is settled before the base model has read anything: model, items by part, prompt, checks, cache, judge, threads."""

    model: Model
    config: AuditConfig
    split: Split
    items: dict[str, tuple[Item, ...]]
    prompt: PromptFormat
    sample: Text | None
    checked: tuple[str, ...]
    cache: Cache = NONE
    judge: Judge | None = None
    arithmetic: Arithmetic = field(default_factory=Arithmetic.here)


@dataclass
class Bench:
    """Everything trials are run on.

    Attributes:
        stage: model, items, prompt.
        parts: train, validation and test, read once by the base model.
        features: head outputs of training and validation answers.
        steer: ITI's directions from them.
        texts: the base model's survey of the texts for drift, if any are read.
        tally: the base model's passes, as the work of one edit.
    """

    stage: Stage
    parts: dict[str, Part]
    features: Features
    steer: Directions
    texts: Survey | None
    tally: Tally = field(default_factory=Tally)

    @property
    def model(self) -> Model:
        """The model."""
        return self.stage.model

    @property
    def config(self) -> AuditConfig:
        """The configuration."""
        return self.stage.config


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


def survey_all(stage: Stage, told: Progress) -> Bench:
    """Survey the base model on all parts: references, features, and the residual streams that edits share."""
    model, config = stage.model, stage.config
    forests = {name: plant(model.tokenizer, stage.prompt, stage.items[name]) for name in SPLITS}
    if stage.sample is not None:
        forests[TEXT] = text_forest(model, stage.sample, config.text_tokens)
    held = layers_held(stage, sum(map(len, forests.values())))
    surveys, tally = {}, Tally()
    for number, (name, forest) in enumerate(forests.items()):

        def say(share: float, number: int = number) -> None:
            told("reading the questions", (number + share) / len(forests))

        layers, wanted = [*held, model.anatomy.n_layers] if name == TEXT else held, featured(name, config)
        surveys[name] = survey(
            model, forest, layers=layers, features=wanted, tokens=config.tokens, progress=say, cache=stage.cache, tally=tally
        )
    parts = {name: Part(stage.items[name], forests[name], surveys[name]) for name in SPLITS}
    features = _features(stage, parts, tally)
    steer = directions(features.bank, features.truth, features.spread)
    return Bench(stage, parts, features, steer, surveys.get(TEXT), tally)


def featured(name: str, config: AuditConfig) -> bool:
    """Whether probes are fitted on the answers of a part."""
    return name in ("train", "validation") and config.features != "next_question"


TEXT = "text"


MEMORY = 4 << 30  # bytes of base residuals held at once where they cannot lie on disk


def layers_held(stage: Stage, nodes: int) -> list[int]:
    """The layers whose residuals are kept: the plan's; in a new one as many as there is room for, deep ones, which save most."""
    model, limit = stage.model, stage.cache.limit // 2 if stage.cache.limit else MEMORY
    count = stage.arithmetic.held or max(1, limit // max(1, nodes * model.anatomy.width * model.dtype.itemsize))
    return list(range(model.anatomy.n_layers))[-count:]


def room(bench: Bench) -> Room:
    """What a training forward may hold on this device: 1 GiB and 3 edits on a CPU, half the memory and 64 edits on a GPU."""
    model, config, forest = bench.model, bench.config, bench.parts["train"].forest
    longest = max(forest.size([owner]) for owner in range(len(bench.parts["train"].items)))
    shape: dict[str, Any] = {"tokens": max(longest, min(config.tokens, config.batch * longest)), "itemsize": model.dtype.itemsize}
    if model.device.type == "cpu":
        return Room(**shape)
    nbytes = torch.cuda.get_device_properties(model.device).total_memory // 2
    return Room(nbytes=nbytes, edits=64, apart=False, **shape)


def _features(stage: Stage, parts: dict[str, Part], tally: Tally) -> Features:
    """Head outputs of training and validation answers; those of the answers themselves come from the surveys."""
    config = stage.config
    items = parts["train"].items + parts["validation"].items
    answers = None
    if config.features != "next_question":
        banks = [parts[name].found.features for name in ("train", "validation")]
        answers = np.concatenate([bank for bank in banks if bank is not None])
    return collect(stage.model, items, stage.prompt, config.features, config.seed, answers, config.tokens, stage.cache, tally)


def spoken_parts(config: AuditConfig) -> tuple[str, ...]:
    """The parts whose questions are answered and judged."""
    return ("validation", "test") if config.judge_validation else ("test",)


def scored_parts(config: AuditConfig, trained: bool) -> tuple[str, ...]:
    """The parts on which an edit is scored. Validation questions only choose: with one setting there is nothing to choose."""
    single = len(config.taus) * len(config.lr_scales) * len(config.full_forms) == 1
    return ("test",) if single and trained else ("validation", "test")
