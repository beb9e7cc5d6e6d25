"""One bank of trials: its edits are made together, and measured together, with the threads that the plan says.

Nothing is written here but by `run_bank`: whoever does a bank hands rows and edits back by value.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.torch import load
from torch import Tensor

from locus import atomic
from locus.edits import Edit
from locus.edits.base import load_edit
from locus.engine.cost import Sizes, Tally
from locus.engine.generate import Speech
from locus.engine.manifold import Departures, own_departures
from locus.engine.train import Fit
from locus.judges.speech import check_scored, judge_texts, speak
from locus.metrics.choice import departed, measures, score
from locus.metrics.drift import drift
from locus.plan.context import AuditContext, scored_parts, spoken_parts
from locus.plan.trials import UNEDITED, Trial
from locus.records.plan import TrialSpec
from locus.records.result import FitRecord, Result
from locus.run.training import fit_bank, made
from locus.sites.positions import ALL, ANSWER, words

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DoneBank:
    """What came out of a bank.

    Attributes:
        results: of its trials, in order.
        edits: by trial, the bytes of its edit's file; the unedited model has none.
    """

    results: list[Result]
    edits: dict[str, bytes]

    @property
    def content(self) -> dict[str, object]:
        """All but what it took, as JSON can say it; of the edits their numbers, since how their files begin is chance."""
        made = {one: {name: _digest(row) for name, row in load(content).items()} for one, content in self.edits.items()}
        told = [(one.id, one.converged, one.reason, repr(one.fit), repr(one.scores), repr(one.texts)) for one in self.results]
        return {"edits": made, "results": told}

    def save_edits(self, folder: Path) -> None:
        """Write the edits' files, each whole or not at all."""
        for identity, content in self.edits.items():
            atomic.replace(folder / f"{identity}.safetensors", content)


def _digest(numbers: Tensor) -> str:
    return hashlib.sha256(numbers.numpy().data).hexdigest()


def starts_of(trials: Sequence[Trial], folder: Path) -> dict[str, Edit]:
    """The edits from which some of a bank's trials are searched for as well.

    Raises:
        UserError: if one is missing.
    """
    wanted = dict.fromkeys(start for trial in trials for start in trial.starts)
    return {identity: load_edit(folder / f"{identity}.safetensors") for identity in wanted}


def run_bank(
    trials: list[Trial], context: AuditContext, folder: Path, say: Callable[[float], None], starts: Path | None = None
) -> list[Result]:
    """Do a bank, and save its edits.

    Args:
        trials: of one bank.
        context: what they are run on.
        folder: where edits are saved.
        say: told the share that is done.
        starts: where the edits are from which some of them are searched for as well; by default where edits are saved.
    """
    done = do_bank(trials, context, starts_of(trials, starts or folder), say)
    done.save_edits(folder)
    return done.results


def do_bank(trials: list[Trial], context: AuditContext, starts: Mapping[str, Edit], say: Callable[[float], None]) -> DoneBank:
    """Make the edits of some trials together, and measure them together, with the threads that a bank is to have.

    Args:
        trials: of one bank.
        context: what they are run on.
        starts: by trial, the edits from which some of them are searched for as well.
        say: told the share that is done.
    """
    own = {trial.id: trial for trial in trials if not trial.again}
    with context.arithmetic.banked():
        done = _do_bank(list(own.values()), context, starts, say)
    by_id = {result.id: result for result in done.results}
    for trial in (trial for trial in trials if trial.again):
        by_id[trial.id] = _once_more(trial, by_id[trial.again])
        done.edits[trial.id] = done.edits[trial.again]
    return DoneBank([by_id[trial.id] for trial in trials], done.edits)


def _once_more(trial: Trial, done: Result) -> Result:
    """What came out of a trial as that of the same trial for another claim, which took nothing."""
    free = {work: dict.fromkeys(counts, 0.0) for work, counts in done.cost.items()}
    return replace(done, id=trial.id, spec=TrialSpec.parse(trial.to_dict()), seconds=0.0, cost=free)


def _do_bank(trials: list[Trial], context: AuditContext, starts: Mapping[str, Edit], say: Callable[[float], None]) -> DoneBank:
    start = time.monotonic()
    if trials[0].edit == UNEDITED:
        return DoneBank([_base(trials[0], context, start, say)], {})
    fits: list[Fit | None] = [None] * len(trials)
    tally = Tally(len(trials))
    if trials[0].recipe is not None:
        fits = list(fit_bank(trials, context, starts, lambda share: say(0.7 * share), tally))
    edits = [fit.edit if fit is not None else made(trial, context) for trial, fit in zip(trials, fits, strict=True)]
    contents = {trial.id: edit.content() for trial, edit in zip(trials, edits, strict=True)}
    results = [_result(trial, fit) for trial, fit in zip(trials, fits, strict=True)]
    _measure(results, edits, context, tally)
    _speak(results, edits, context, lambda share: say(0.75 + 0.25 * share), tally)
    say(1.0)
    return DoneBank(_charged(results, time.monotonic() - start, tally, context), contents)


def _charged(results: list[Result], seconds: float, tally: Tally, context: AuditContext) -> list[Result]:
    """The results with what each took: an equal part of the time, its own part of the work."""
    sizes = Sizes.of(context.model, context.space.kind.point)
    for place, result in enumerate(results):
        result.seconds, result.cost = seconds / len(results), tally.counts(place, sizes)
    return results


def _result(trial: Trial, fit: Fit | None) -> Result:
    result = Result(trial.id, TrialSpec.parse(trial.to_dict()))
    if fit is not None:
        quarters = [float(part.mean()) for part in np.array_split(fit.losses, 4) if len(part)]
        result.converged, result.reason = fit.converged, fit.reason
        result.fit = FitRecord(
            loss_by_quarter=tuple(map(_known, quarters)),
            first_loss=_known(float(fit.losses[0])),
            steps=len(fit.losses),
            diverged=fit.diverged,
        )
        if (end := fit.certificate) is not None:
            known = {"start": end.start, "loss": _known(end.loss), "promised": _known(end.promised)}
            known |= {} if end.second is None else {"second": _known(end.second)}
            result.fit = FitRecord.parse({**result.fit.to_json(), **known})
    return result


def _known(loss: float) -> float | None:
    """A loss, or None where it is no number: a training may diverge in its first step."""
    return loss if np.isfinite(loss) else None


def _base(trial: Trial, context: AuditContext, start: float, say: Callable[[float], None]) -> Result:
    """The unedited model's own scores, from its base pass, and what it says, which all trials are compared with."""
    result, metrics = Result(trial.id, TrialSpec.parse(trial.to_dict())), context.config.measures
    for name, part in (context.parts | context.read_elsewhere).items():
        for measure, values in measures(part.items, part.trie, part.base.logprobs, part.base.logprobs, metrics).items():
            result.scores[name, measure] = {item.id: float(value) for item, value in zip(part.items, values, strict=True)}
    if (manifold := context.manifold()) is not None:
        _departed([result], own_departures(context.model, manifold, context.parts["test"].base)[None], context)
    tally = deepcopy(context.tally)  # the base model is asked once, but this may be called again
    _speak([result], [], context, say, tally)
    if (deciding := ("test", context.config.metric)) in result.reasons:
        check_scored(result.scores[deciding].values(), result.reasons[deciding].values())
    return _charged([result], time.monotonic() - start, tally, context)[0]


def _speak(results: list[Result], edits: list[Edit], context: AuditContext, say: Callable[[float], None], tally: Tally) -> None:
    """What all edits (none: the base model) say to test questions, judged; to validation questions too if they are to choose."""
    config = context.config
    if context.judge is None:
        return
    settings = Speech(config.max_new_tokens, config.sample, config.temperature, config.top_p, config.seed)
    for name in spoken_parts(config):
        items = context.items[name]
        said = speak(context.model, items, edits, context.prompt, settings, say if name == "test" else None, tally)
        opinions = judge_texts(context.judge, items, said, config.measures)
        for result, texts, judged in zip(results, said, opinions, strict=True):
            result.texts[name] = {item.id: text for item, text in zip(items, texts, strict=True)}
            why = {item.id: reason for item, reason in zip(items, judged.reasons, strict=True) if reason}
            for measure, values in judged.scores.items():
                # Training that diverged made no edit to speak of; what it mumbles is kept for reading, and unscored.
                values = np.full(len(values), np.nan) if result.fit.diverged else values
                result.scores[name, measure] = {item.id: float(one) for item, one in zip(items, values, strict=True)}
                result.reasons[name, measure] = why


def _departed(results: list[Result], counts: Floats, context: AuditContext) -> None:
    """How far edits take activations from where the base model's lie, question by question; counts are [edits, sequences]."""
    part = context.parts["test"]
    lengths = part.base.lengths.astype(np.float64)
    for result, beyond in zip(results, counts, strict=True):
        for measure, values in departed(part.items, part.trie, beyond, lengths, context.config.measures).items():
            values = np.full(len(values), np.nan) if result.fit.diverged else values
            result.scores["test", measure] = {item.id: float(one) for item, one in zip(part.items, values, strict=True)}


def _measure(results: list[Result], edits: list[Edit], context: AuditContext, tally: Tally) -> None:
    """Scores of all edits on validation and test questions, elsewhere where that is asked for, and their drift on other text."""
    metrics = context.config.measures
    parts = [(name, context.parts[name]) for name in scored_parts(context.config, trained=results[0].fit.steps > 0)]
    for name, part in [*parts, *context.read_elsewhere.items()]:
        rows, count = part.base.prepared, len(part.trie.sequences)
        manifold = context.manifold() if name == "test" else None
        departures = None if manifold is None else Departures(manifold, np.zeros((len(edits), count)))
        logprobs = score(
            context.model, rows, edits, count, residual_cache=part.base.residuals, tally=tally, departures=departures
        )
        if departures is not None:
            _departed(results, departures.counts, context)
        for result, values in zip(results, logprobs, strict=True):
            for measure, scores in measures(part.items, part.trie, values, part.base.logprobs, metrics).items():
                if result.fit.diverged:
                    scores = np.full(len(scores), np.nan)
                result.scores[name, measure] = {item.id: float(one) for item, one in zip(part.items, scores, strict=True)}
    if context.texts is not None:
        if (at := context.space.kind.at) not in (ALL, ANSWER):
            _unplaced(results, f"ordinary text has no token {words(at).removeprefix('at ')}", context)
            return
        texts = context.texts
        found = drift(context.model, texts.prepared, edits, residual_cache=texts.residuals, tally=tally, metrics=metrics)
        for place, result in enumerate(results):
            for measure, values in found.values.items():
                result.scores["text", measure] = {
                    f"passage-{number:03d}": float(value) for number, value in enumerate(values[place])
                }


def _unplaced(results: list[Result], why: str, context: AuditContext) -> None:
    """Drift that is not defined, since edits act at a token that only a prompt has."""
    passages = [f"passage-{number:03d}" for number in range(context.config.text_passages)]
    for result, one in product(results, (one for one in context.config.measures if one.of == "text")):
        result.scores["text", one.name] = dict.fromkeys(passages, np.nan)
        result.reasons["text", one.name] = dict.fromkeys(passages, why)
