"""Run a plan in this process: what it names and the store lacks, bank by bank, each bank committed whole.

The composition of banks is the plan's, and so is the number of threads that each is computed with: never that of what happens to
be left, so a resumed run computes exactly what an undisturbed one would have.
"""

import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import numpy as np
import numpy.typing as npt

from locus import atomic
from locus.edits import Edit
from locus.engine.cost import Sizes, Tally
from locus.engine.generate import Speech
from locus.engine.manifold import Departures, own_departures
from locus.engine.train import Fit
from locus.judges.api import ApiJudge
from locus.judges.base import References
from locus.judges.speech import check_scored, judge_texts, speak
from locus.metrics.choice import departed, measures, score
from locus.metrics.drift import drift
from locus.plan.context import AuditContext, Progress, scored_parts, spoken_parts
from locus.plan.trials import UNEDITED, Plan, Trial
from locus.records.plan import DRAWN, TrialSpec, put_as
from locus.records.result import FitRecord, Result
from locus.records.store import Store
from locus.run.executors import side_by_side
from locus.run.training import fit_bank, made, recipe_rounds

Floats = npt.NDArray[np.float64]


def run(
    plan: Plan, store: Store, context: AuditContext, folder: Path, progress: Progress, enough: Callable[[], bool] = lambda: False
) -> None:
    """Run every bank of the plan that the store lacks.

    Args:
        plan: what is to be done.
        store: what is done.
        context: what it is done on.
        folder: where edits are saved.
        progress: told what goes on and the fraction of the whole.
        enough: asked before random Locations are drawn: whether more of them can change nothing.
    """
    done = store.done()
    trials = {trial.id: trial for trial in plan.trials}
    banks = [[trials[identity] for identity in bank] for bank in plan.banks]
    costs = [sum(cost(trial, context) for trial in bank) for bank in banks]
    shares = [float(set(bank) <= done) for bank in plan.banks]
    left = [number for number, share in enumerate(shares) if not share]

    def say(number: int, share: float) -> None:
        shares[number] = share
        arms = ", ".join(dict.fromkeys(trial.arm for trial in banks[number]))
        progress(f"{banks[number][0].role}: {arms}", reached())

    def reached() -> float:
        return float(np.dot(shares, costs)) / sum(costs)

    def work(number: int, tell: Callable[[float], None]) -> list[Result]:
        return run_bank(banks[number], context, folder, tell)

    def ran(wave: list[int]) -> bool:
        coming = side_by_side(
            wave, work, context.arithmetic.at_once, lambda at, share: say(wave[at], share), context.config.executor
        )
        with closing(coming):
            for number in wave:
                if banks[number][0].role in DRAWN and enough():
                    return False  # those that nothing starts from are the plan's last
                store.commit(next(coming))
                say(number, 1.0)
        return True

    _prepare([trial for number in left for trial in banks[number]], context, lambda what: progress(what, reached()))
    for wave in _waves(left, banks):
        if not ran(wave):
            break
    tidy(plan, store, folder)
    progress("", 1.0)


def _waves(left: list[int], banks: list[list[Trial]]) -> list[list[int]]:
    """Banks in order, cut so that none of a part starts from an edit of the same part."""
    waves: list[list[int]] = [[]]
    made_here: set[str] = set()
    for number in left:
        if any(start in made_here for trial in banks[number] for start in trial.starts):
            waves.append([])
            made_here.clear()
        waves[-1].append(number)
        made_here |= {trial.id for trial in banks[number]}
    return waves


def _prepare(trials: list[Trial], context: AuditContext, say: Callable[[str], None]) -> None:
    """What searches have in common, before there are workers to share it."""
    searched = [trial for trial in trials if trial.recipe is not None and trial.recipe.search == "newton"]
    for free in sorted({trial.form == "free" for trial in searched}):
        say("linearising the base model")
        context.first_order("free" if free else "heads")
    if trials:
        context.manifold()


def tidy(plan: Plan, store: Store, folder: Path) -> None:
    """Remove what is of no finished trial: what workers made ahead of an early end, what a killed process had not committed."""
    done = store.done()
    for trial in plan.trials:
        if trial.edit == UNEDITED or trial.id not in done:
            (folder / f"{trial.id}.safetensors").unlink(missing_ok=True)
    atomic.sweep(folder)


SPOKEN = 3.0  # what generating and judging an answer costs, in forwards of a question tree


def afford(plan: Plan, context: AuditContext) -> None:
    """Refuse, before the first trial, an audit whose judging could cost more than its cap.

    Raises:
        UserError: saying the estimate.
    """
    judge, config = context.judge, context.config
    if not isinstance(judge, ApiJudge):
        return
    items = [item for name in spoken_parts(config) for item in context.items[name]]
    sides = [References(item.wanted, item.unwanted) for item in items]
    most = judge.estimate([item.question for item in items], sides, config.max_new_tokens, len(plan.trials))
    judge.purse.afford(most)


def cost(trial: Trial, context: AuditContext) -> float:
    """Relative price of a trial: forwards and backwards over the layers from its first on."""
    depth = 1 - trial.first_layer / context.model.layout.n_layers
    sizes = {name: len(part.trie) for name, part in context.parts.items()}
    scored = sizes["validation"] + sizes["test"]
    trained = 0.0
    if trial.recipe is not None and not trial.shorter:
        share = 1.0 if trial.recipe.batching == "questions" or trial.recipe.search == "newton" else 4.0
        ways = 2 if trial.starts else 1
        trained = 2.2 * (recipe_rounds(trial.recipe) * ways + trial.further) * sizes["train"] * share
    return (trained + scored) * (depth + 0.2) + (SPOKEN * sizes["test"] if context.judge else 0.0)


def run_bank(
    trials: list[Trial], context: AuditContext, folder: Path, say: Callable[[float], None], starts: Path | None = None
) -> list[Result]:
    """Make the edits of some trials together, save them, and measure them together, with the threads that a bank is to have.

    Args:
        trials: of one bank.
        context: what they are run on.
        folder: where edits are saved.
        say: told the share that is done.
        starts: where the edits are from which some of them are searched for as well; by default where edits are saved.
    """
    with context.arithmetic.banked():
        return _run_bank(trials, context, folder, say, starts or folder)


def _run_bank(
    trials: list[Trial], context: AuditContext, folder: Path, say: Callable[[float], None], starts: Path
) -> list[Result]:
    start = time.monotonic()
    if trials[0].edit == UNEDITED:
        return [_base(trials[0], context, start, say)]
    fits: list[Fit | None] = [None] * len(trials)
    tally = Tally(len(trials))
    if trials[0].recipe is not None:
        fits = list(fit_bank(trials, context, starts, lambda share: say(0.7 * share), tally))
    edits = [fit.edit if fit is not None else made(trial, context) for trial, fit in zip(trials, fits, strict=True)]
    for trial, edit in zip(trials, edits, strict=True):
        edit.save(folder / f"{trial.id}.safetensors")
    results = [_result(trial, fit) for trial, fit in zip(trials, fits, strict=True)]
    _measure(results, edits, context, tally)
    _speak(results, edits, context, lambda share: say(0.75 + 0.25 * share), tally)
    say(1.0)
    return _charged(results, time.monotonic() - start, tally, context)


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
    for name, part in context.parts.items():
        for measure, values in measures(part.items, part.trie, part.base.logprobs, part.base.logprobs, metrics).items():
            result.scores[name, measure] = {item.id: float(value) for item, value in zip(part.items, values, strict=True)}
    for name, part in context.transferred.items():
        for measure, values in measures(part.items, part.trie, part.base.logprobs, part.base.logprobs, metrics).items():
            result.scores[put_as(name), measure] = {item.id: float(one) for item, one in zip(part.items, values, strict=True)}
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
    """Scores of all edits on validation and test questions, and their drift on ordinary text."""
    metrics = context.config.measures
    parts = [(name, context.parts[name]) for name in scored_parts(context.config, trained=results[0].fit.steps > 0)]
    for name, part in [*parts, *((put_as(name), part) for name, part in context.transferred.items())]:
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
        texts = context.texts
        found = drift(context.model, texts.prepared, edits, residual_cache=texts.residuals, tally=tally, metrics=metrics)
        for place, result in enumerate(results):
            for measure, values in found.values.items():
                result.scores["text", measure] = {
                    f"passage-{number:03d}": float(value) for number, value in enumerate(values[place])
                }
