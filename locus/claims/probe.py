"""Probing as a source of claims: a logistic regression per head (or other site), ranked by validation accuracy.

The feature is what is there at the last token of prompt + answer, or of prompt + answer + another question.

Source: Li et al. 2023 (ITI): probes and directions from question + answer, sigma from question + answer + random question;
Wang & Veitch 2025, section 2: one bank, question + answer + random question, for all three. Regressions are L2-regularised
with C = 1 on unscaled features, as scikit-learn's default and ITI's code have it; ties rank the earlier site first.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from locus.behaviours.encoding import all_unclosed
from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat, TokenSequence
from locus.claims.claim import Claim
from locus.claims.logistic import fit_probes
from locus.engine.activations import TOKENS, base_pass
from locus.engine.cache import NONE, Cache
from locus.engine.cost import Tally
from locus.engine.trie import TokenTrie
from locus.errors import UserError
from locus.models.model import Model
from locus.sites.kind import default, kind_of
from locus.sites.known import MEANS
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Features:
    """What is at every site, of labelled answers.

    Attributes:
        bank: [answers, layers, sites, width], what probes and directions are fitted on; of as many sites and as wide as any
            layer's, 0 where a layer has none.
        spread: the bank sigma is taken from (the same, but for ITI's two banks).
        truth: [answers].
        owner: [answers], index of the item.
        counts: how many sites each layer has; empty where all have as many.
        kind: of the sites; heads where it is empty.
    """

    bank: Floats
    spread: Floats
    truth: Bools
    owner: npt.NDArray[np.int64]
    counts: tuple[int, ...] = ()
    kind: str = ""

    def first(self, items: int) -> "Features":
        """Only the answers of the first items (the training questions)."""
        return self._where(self.owner < items)

    def rest(self, items: int) -> "Features":
        """Only the answers of the other items (the validation questions)."""
        return self._where(self.owner >= items)

    def _where(self, mask: Bools) -> "Features":
        return Features(self.bank[mask], self.spread[mask], self.truth[mask], self.owner[mask], self.counts, self.kind)


def labels(items: list[Item] | tuple[Item, ...]) -> tuple[Bools, npt.NDArray[np.int64]]:
    """Truth and owner of every answer in trie order."""
    truth = [index < len(item.wanted) for item in items for index in range(len(item.answers))]
    owner = [number for number, item in enumerate(items) for _ in item.answers]
    return np.array(truth, dtype=np.bool_), np.array(owner, dtype=np.int64)


def plant_with_question(tokenizer: Any, items: tuple[Item, ...] | list[Item], seed: int) -> TokenTrie:
    """Trees of "Q: q A: a Q: q'", one random q' per question, as ITI's end-of-question bank; for features, not for scores."""
    owners, texts = zip(*with_question(items, seed), strict=True)
    coded = all_unclosed(tokenizer, texts)
    return TokenTrie([TokenSequence(tuple(one.ids), len(one) - 1) for one in coded], list(owners))


def with_question(items: tuple[Item, ...] | list[Item], seed: int) -> list[tuple[int, str]]:
    """Every answer's text with another question behind it, and the index of its item."""
    other_question = np.random.default_rng(seed).integers(len(items), size=len(items))
    return [
        (index, f"Q: {item.question} A: {answer} Q: {items[other_question[index]].question}")
        for index, item in enumerate(items)
        for answer in item.answers
    ]


def collect(
    model: Model,
    items: tuple[Item, ...],
    text: PromptFormat,
    kind: str,
    seed: int,
    answers: Floats | None = None,
    tokens: int = TOKENS,
    cache: Cache = NONE,
    tally: Tally | None = None,
    space: SiteSpace | None = None,
) -> Features:
    """The features of a kind: answer, next_question, or two_banks.

    Args:
        model: the model.
        items: training and validation items; nothing of the test questions may come in here.
        text: the prompt format, for `answer`.
        kind: see the module's docstring.
        seed: of the random questions.
        answers: what is at the sites at the answers' last tokens, where a base pass already has them.
        tokens: the rows' token budget.
        cache: where base passes are kept.
        tally: where they are counted.
        space: of the sites; heads by default.
    """
    from locus.engine.trie import build_trie

    own = space or SiteSpace.of(default(), model.layout)

    def last(trie: TokenTrie) -> Floats:
        features = base_pass(model, trie, features=own, tokens=tokens, cache=cache, tally=tally).features
        assert features is not None, "the base pass was asked for features"
        return features

    truth, owner = labels(items)
    if kind != "next_question" and answers is None:
        answers = last(build_trie(model.tokenizer, text, items))
    if kind == "answer":
        assert answers is not None, "the base pass was asked for features"
        return Features(answers, answers, truth, owner, own.counts, own.kind.name)
    ended = last(plant_with_question(model.tokenizer, items, seed))
    bank = ended if answers is None or kind == "next_question" else answers
    return Features(bank, ended, truth, owner, own.counts, own.kind.name)


def accuracies(train: Features, validation: Features) -> npt.NDArray[np.float64]:
    """Validation accuracy of every site's probe, [layers, sites], as a fraction of answers; NaN where there is none."""
    _, n_layers, most, _ = train.bank.shape
    accuracy = np.full((n_layers, most), np.nan)
    for layer in range(n_layers):
        there = train.counts[layer] if train.counts else most
        if not there:
            continue
        weights, intercepts = fit_probes(train.bank[:, layer, :there].transpose(1, 0, 2), train.truth)
        scores = np.einsum("nhd,hd->nh", validation.bank[:, layer, :there].astype(np.float64), weights) + intercepts
        accuracy[layer, :there] = ((scores > 0) == validation.truth[:, None]).mean(axis=0)
    return accuracy


def claim(train: Features, validation: Features, size: int) -> Claim:
    """The `size` sites whose probes do best on validation questions; of directions, the class means' difference where they do.

    Raises:
        UserError: if no claim is made of such sites.
    """
    about = {"n_train": len(train.truth), "n_validation": len(validation.truth)}
    return best("probe", accuracies(train, validation), train.kind, size, about)


def best(name: str, table: npt.NDArray[np.float64], kind: str, size: int, about: dict[str, Any]) -> Claim:
    """The claim of the sites that a table of scores ranks first; equals by layer and index.

    Args:
        name: of the claim, and of its origin.
        table: [layers, sites], a score a site; NaN where there is none.
        kind: of the sites; heads where it is empty.
        size: how many are claimed.
        about: how they were found.

    Raises:
        UserError: if no claim is made of such sites.
    """
    own = kind_of(kind) if kind else default()
    if own.written == "off":
        raise UserError("a kind of site that is claimed", repr(own.name), "Choose another: `locus list sites` shows them.")
    most = table.shape[1]
    order = np.argsort(-table.reshape(-1), kind="stable")
    there = order[np.isfinite(table.reshape(-1)[order])]
    sites = [Site(own.name, int(index) // most, MEANS if own.written == "along" else int(index) % most) for index in there]
    scores = {str(site): float(table[site.layer, site.index % most]) for site in sites}
    return Claim(name, Location.of(sites[:size]), name, scores, about)


def heuristic(evidence: Any) -> Claim:
    """The claim of the heuristic `probe`, from what a `heuristic.Evidence` holds."""
    return claim(evidence.features, evidence.held_out, evidence.size)
