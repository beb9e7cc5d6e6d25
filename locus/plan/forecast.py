"""What the trials of a plan take, counted from the plan, the questions and the model's shape; nothing is run.

The same rows are laid out as a run lays them out, so the counts are those of a run that finds the base model's residual
streams held and its passes not in the cache. Only speech has to be guessed, as long as nobody says how much was said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from locus.behaviours.items import SPLITS, Dataset, content_hash
from locus.behaviours.prompts import PromptFormat
from locus.claims.probe import plant_with_question
from locus.edits.kind import kind
from locus.edits.rank1 import Rank1Form
from locus.engine.activations import TOKENS
from locus.engine.alone import spread
from locus.engine.cost import Work, back, continued, forward, lead
from locus.engine.generate import coded
from locus.engine.optimum import kept_of, work_of
from locus.engine.train import TrainingRecipe, chunks, schedule
from locus.engine.training_set import all_pairs
from locus.engine.trie import PackedRow, TokenTrie, build_trie
from locus.metrics.drift import load_text, text_trie
from locus.models.model import Model
from locus.models.shortcuts import PROMPTS, RESIDUALS, SPEECH
from locus.plan.config import AuditConfig
from locus.plan.context import TEXT, featured, scored_parts, spoken_parts
from locus.plan.trials import UNEDITED
from locus.records.plan import PlanRecord, TrialRecord, asked_of
from locus.sites.kind import default, kind_of
from locus.sites.positions import ALL, ANSWER, LAST
from locus.sites.site import Location

Costs = dict[str, Work]
Laid = Sequence[tuple[PackedRow, int]]  # rows, and at how many positions of each the head is run
Generation = Mapping[str, Mapping[str, int]]  # trial -> item -> tokens of its text


class Forecast:
    """Counts the trials of one plan.

    Args:
        plan: of a run.
        dataset: the questions it names.
        model: for tokenizer and sizes; its weights are not looked at, and may be on the device "meta".
        said: how many tokens each trial's texts have; of those not named, the most that the plan allows.
        others: the other behaviours on which it scores edits, in its order.
    """

    def __init__(
        self,
        plan: PlanRecord,
        dataset: Dataset,
        model: Model,
        said: Generation | None = None,
        others: Sequence[Dataset] = (),
    ):
        self.plan, self.model, self.said = plan, model, said or {}
        self.config, self.layers = AuditConfig.recorded(plan.config), model.layout.n_layers
        self.text = PromptFormat(**plan.prompt.to_json())
        known = {item.id: item for item in dataset.items}
        self.items = {name: tuple(known[one.id] for one in part) for name, part in plan.items.by_part.items()}
        edited = next((Location.parse(trial.location) for trial in plan.trials if trial.location), None)
        own = default() if edited is None else kind_of(edited.kind)
        self.point, self.at = own.point, own.at
        self.tries = {name: build_trie(model.tokenizer, self.text, items, self.at) for name, items in self.items.items()}
        for one, other in zip(plan.also, others, strict=True):
            held = {item.id: item for item in other.items}
            asked, prompt = [held[item.id] for item in one.items], PromptFormat(**one.prompt.to_json())
            self.tries[asked_of(one.name)] = build_trie(model.tokenizer, prompt, asked, self.at)
        if self.config.text_passages and self.at in (ALL, ANSWER):  # else nothing is read for it
            sample = load_text(self.config.text, self.config.text_passages, self.config.seed)
            self.tries[TEXT] = text_trie(model, sample, self.config.text_tokens)
        self.rows = {name: self._laid_out(trie, self.config.tokens) for name, trie in self.tries.items()}
        self._trained: dict[tuple[Any, ...], Laid] = {}

    def trials(self) -> dict[str, Costs]:
        """Trial -> kind of work -> work, for all trials of the plan."""
        specs, again = {trial.id: trial for trial in self.plan.trials}, self._again()
        work: dict[str, Costs] = {}
        for bank in self.plan.banks:
            own = [specs[trial] for trial in bank if trial not in again]
            work |= {trial: self._trial(specs[trial], own) if trial not in again else {} for trial in bank}
        return work

    def _again(self) -> set[str]:
        """Trials that are the same as one before but for their claim, where claims share their random Locations."""
        seen: set[str] = set()
        again = set()
        for trial in self.plan.trials if self.config.common_random else ():
            alike = content_hash({**trial.spec, "claim": ""})
            again |= {trial.id} if alike in seen else set()
            seen.add(alike)
        return again

    def _laid_out(self, trie: TokenTrie, tokens: int = TOKENS, ends: bool = False) -> Laid:
        """The rows of a forest, or the texts in them where the model is run row by row."""
        return [self._row(*one) for one in laid_out(trie, tokens, ends)]

    def _row(self, row: PackedRow, scored: int) -> tuple[PackedRow, int]:
        return (row, scored) if self.model.trees else (spread(row), scored)

    def _trial(self, spec: TrialRecord, bank: Sequence[TrialRecord]) -> Costs:
        """The work of one trial of a bank."""
        work: Costs = {}
        together = len(bank)
        if spec.edit == UNEDITED:
            work["read"] = self._read()
            if forms := self._searched():
                work["linearise"] = _sum(self._linearised(form) for form in forms)
        else:
            first, lowest = _first(spec), min(map(_first, bank))
            shares = self.model.trees and self.model.parts.past is not None and PROMPTS not in self.model.off
            led = together if shares and self._late(spec) else 1
            first, lowest = (first, lowest) if self.model.trees else (0, 0)
            recipe = TrainingRecipe(**spec.recipe.to_json()) if spec.recipe else None
            if recipe is not None and (not recipe.rounds or recipe.rounds == self.config.rounds):
                work |= self._training(recipe, first, recipe.rounds * (2 if spec.starts else 1) + spec.further)
            parts = scored_parts(self.config, trained=recipe is not None)
            # Test questions put in another prompt format are reckoned to be as long.
            again = ["test"] * len(self.config.transfer) + [asked_of(one.name) for one in self.plan.also]
            work["score"] = _sum(self._forwards(self.rows[name], first, lowest, led) for name in (*parts, *again))
            if TEXT in self.rows:
                own = replace(self._forwards(self.rows[TEXT], first, lowest, led), scored=0)
                # Every token of every passage is compared, in the edited model and in the base model, which the bank shares.
                compared = Work(scored=sum(len(one.ids) - one.start for one in self.tries[TEXT].sequences))
                # What is run whole has nothing held of the base model, which reads each passage once more for the bank.
                anew = Work() if self.model.trees else _sum(forward(row, self.layers) for row, _ in self.rows[TEXT])
                work["text"] = own + compared + (anew + compared).part(together)
        if self.config.judge != "none":
            work["speak"] = self._speech(spec, bank)
        return work

    def _late(self, spec: TrialRecord) -> bool:
        """Whether an edit leaves all that leads to the last prompt token as it is."""
        return (kind(spec.edit).positions if self.at == ALL else self.at) in (ANSWER, LAST)

    def _forwards(self, rows: Laid, first: int, lowest: int, led: int) -> Work:
        """One edit's forwards; several that act on answers only share what leads to these, from the lowest first layer on."""
        parts = []
        for row, scored in rows:
            apart, asked = led > 1 and not row.answer_mask.all(), scored if self.model.trees else None
            parts.append(forward(row, self.layers - first, scored, first, answers=apart, predictors=asked))
            if apart:
                parts.append(lead(row, self.layers - lowest).part(led))
        return _sum(parts)

    def _read(self) -> Work:
        """The base model's pass over all questions and texts, and over what probes are fitted on if that is another text."""
        tries, budget = self.tries.items(), self.config.tokens
        laid = [one for name, trie in tries for one in self._laid_out(trie, budget, featured(name, self.config))]
        if self.config.features != "answer":
            items = self.items["train"] + self.items["validation"]
            other = plant_with_question(self.model.tokenizer, items, self.config.seed)
            laid += self._laid_out(other, self.config.tokens, ends=True)
        work = [forward(row, self.layers, scored) for row, scored in laid]
        if self.config.off_manifold:
            again = (row for name in SPLITS for row, _ in self.rows[name])
            work += [forward(row, 1, reused=self.layers - 1) if self.model.trees else forward(row, self.layers) for row in again]
        return _sum(work)

    def _searched(self) -> list[Rank1Form]:
        """The forms of the edits that are searched for by the whole loss."""
        free = {trial.form == "free" for trial in self.plan.trials if trial.recipe is not None and trial.recipe.rounds}
        return ["free" if one else "heads" for one in sorted(free)]

    def _linearised(self, form: Rank1Form) -> Work:
        trie = self.tries["train"]
        return work_of(trie, kept_of(trie, self.model.layout, form, seed=self.config.seed, point=self.point), self.layers)

    def _training(self, recipe: TrainingRecipe, first: int, rounds: int) -> Costs:
        """The work of training; of a search by the whole loss the most, so many rounds, since it ends when it has settled."""
        trie, items = self.tries["train"], self.items["train"]
        if (key := (*recipe.shared, rounds)) not in self._trained:
            if recipe.search == "newton":
                whole = np.concatenate([all_pairs(items, trie, owner) for owner in range(len(items))])
                steps = [whole] * rounds
            else:
                steps = [step for epoch in schedule(items, trie, recipe) for step in epoch]
            used = [sorted(set(pairs.reshape(-1).tolist())) for step in steps for pairs in chunks(step, trie, self.config.tokens)]
            self._trained[key] = [_scored(trie, sequences) for sequences in used]
        rows = self._trained[key]
        return {
            "train": self._forwards([self._row(*one) for one in rows], first, first, 1),
            "gradient": _sum(back(self.model, row, first, scored, self.point) for row, scored in rows),
        }

    def _speech(self, spec: TrialRecord, bank: Sequence[TrialRecord]) -> Work:
        """The work of one trial of a bank to read all prompts and to answer them."""
        parts = []
        for name in spoken_parts(self.config):
            ids = [coded(self.model, self.text.prompt(item.question), self.text) for item in self.items[name]]
            same = next((at for at, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1), min(map(len, ids)))
            common = min(same, *(len(one) - 1 for one in ids)) if self._side_by_side else 0
            parts.append(self._prompt(spec, bank, 0, common))
            for item, one in zip(self.items[name], ids, strict=True):
                length = self.said.get(spec.id, {}).get(item.id, self.config.max_new_tokens)
                parts.append(self._prompt(spec, bank, common, len(one) - 1 - common))
                parts.append(continued(len(one) - 1, length, self.layers, length))
        return _sum(parts)

    @property
    def _side_by_side(self) -> bool:
        """Whether prompts are answered at once; else one after the other, each read whole by every edit."""
        return self.model.trees and SPEECH not in self.model.off and self.at in (ALL, ANSWER)

    def _prompt(self, spec: TrialRecord, bank: Sequence[TrialRecord], start: int, count: int) -> Work:
        """One trial's part in reading a piece of a prompt, which below its first layer the bank reads once."""
        off, model = self.model.off, self.model
        joins = self._side_by_side and (model.speaks or (True, True))[1]
        layered = joins and model.parts.past is not None and not {RESIDUALS, PROMPTS} & off.keys()
        unchanged = [one for one in bank if one.edit == UNEDITED or self._late(one)]
        begins = {one.id: 0 if not layered else self.layers if one in unchanged else _first(one) for one in bank}
        own = continued(start, count, self.layers - begins[spec.id]).part(
            len(unchanged) if self._side_by_side and spec in unchanged else 1
        )
        below = [own]
        for lower, upper in pairwise(sorted({0, *begins.values()})):
            if begins[spec.id] >= upper:
                sharing = sum(begin >= upper for begin in begins.values())
                below.append(replace(continued(start, count, upper - lower), tokens=0).part(sharing))
        return _sum(below)


def _first(spec: TrialRecord) -> int:
    """The first layer that a trial edits."""
    return Location.parse(spec.location).sites[0].layer


def laid_out(trie: TokenTrie, tokens: int = TOKENS, ends: bool = False) -> Laid:
    """The rows of all questions of a trie, as edits are scored on them, or with their ends, as the base model reads them."""
    owners = sorted(set(trie.owners.tolist()))
    return [_scored(trie, trie.sequences_of(group), ends) for group in trie.pack(owners, tokens)]


def _scored(trie: TokenTrie, sequences: Sequence[int], ends: bool = False) -> tuple[PackedRow, int]:
    row = trie.row(sequences, ends)
    return row, len(trie.targets(row, sequences).predictors)


def _sum(parts: Any) -> Work:
    return sum(parts, Work())
