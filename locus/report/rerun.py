"""Repeat random trials of a run and hold what comes out against what is stored.

A trial's whole bank is repeated, since its edits share a forward; on the same machine the scores are the same bits. Elsewhere
sums are taken in another order, so smooth scores may differ by `TOLERANCE` (absolute, and relative), and scores that jump (a
choice between answers, a generated text) may differ for few items.

The plan says what a trial is, but opens nothing: see `consent`. A judge that neither comes with the package nor was given is left
out, and what it alone could score is not repeated, which the result says.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from locus import behaviours as datasets
from locus.boundary.incoming import regular
from locus.conclude.rule import rule
from locus.errors import UserError, VerificationError
from locus.judges import kind
from locus.metrics.base import metric
from locus.plan import anew, questions, reading, trials
from locus.plan import document as plan_file
from locus.plan.anew import claims_of
from locus.plan.context import AuditContext, memory_budget
from locus.plan.opened import NOTHING, Opened
from locus.records.base import JsonObject
from locus.records.plan import PlanRecord
from locus.records.result import Result
from locus.records.store import Store
from locus.report.consent import Given, settle
from locus.report.derived import copied_store, first_difference
from locus.report.verify import Repeated
from locus.run import bank as run
from locus.run.setup import held, set_up
from locus.shown import visible

TOLERANCE = 1e-3
Progress = Callable[[str, float], None]
NEAR_TAU = 0.05  # two significant digits, rounded another way
NOTHING_GIVEN = Given()
JUMPS = 0.02  # share of items, and always one, for which a score that jumps may differ


def rerun(
    folder: Path,
    count: int,
    seed: int | None = None,
    progress: Progress = lambda what, share: None,
    given: Given = NOTHING_GIVEN,
    opened: Opened = NOTHING,
) -> Repeated:
    """Repeat `count` random finished trials, with the banks they belong to.

    Args:
        folder: the run folder; nothing in it is written.
        count: how many trials are drawn.
        seed: of the draw; by default one that nobody could know beforehand.
        progress: told what goes on and the share of it.
        given: the user's own model, data, text and judge, for those that do not come with the package.
        opened: those of them that are open already.

    Returns:
        What was repeated, and how near it came.

    Raises:
        UserError: if model or data cannot be had or were not given, or `count` is not positive.
        VerificationError: if they are others than the run's, or with the first score that differs.
    """
    if count < 1:
        raise UserError("at least one trial to repeat", str(count), "Give --rerun 1 or more.")
    recorded = reading.read_plan(folder)
    plan, context = _prepared(recorded, given, progress, opened)
    judge = left_out(recorded, context)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    largest: dict[str, float] = {}
    unrepeated: set[str] = set()
    with copied_store(folder, recorded) as store, tempfile.TemporaryDirectory() as place:
        done = sorted(store.done() & {trial.id for trial in plan.trials})
        chosen = set(np.random.default_rng(seed).choice(done, size=min(count, len(done)), replace=False).tolist())
        banks = [bank for bank in plan.banks if chosen & set(bank)]
        for number, bank in enumerate(banks):
            progress("repeating trials", number / len(banks))
            here = [plan.trial(identity) for identity in bank]
            _startable(here, folder / "edits")
            for result in run.run_bank(here, context, Path(place), lambda share: None, folder / "edits"):
                if result.id in done:
                    _compare(result, store, largest)
                    unrepeated |= _more(result, store, bool(judge))
    return {
        "seed": seed,
        "drawn": sorted(chosen),
        "repeated": len({one for bank in banks for one in bank}),
        "largest": largest,
        "judge": judge,
        "unrepeated": sorted(unrepeated),
    }


def _startable(bank: Sequence[trials.Trial], edits: Path) -> None:
    """See that the edits are there from which some are searched for as well.

    Raises:
        VerificationError: naming the first that is not.
    """
    for trial in bank:
        for start in trial.starts:
            if not regular(edits / f"{start}.safetensors", edits):
                raise VerificationError(
                    f"trial {trial.id} cannot be repeated: the edit {start}, from which it starts, is not there"
                )


def sentences(repeated: Repeated) -> list[str]:
    """What `rerun` found, for reading: how near the repeated scores are, and what was not repeated."""
    gaps = ", ".join(f"{measure} {gap:.2g}" for measure, gap in sorted(repeated["largest"].items()))
    lines = [f"{repeated['repeated']} trials repeated (draw {repeated['seed']}); largest differences: {gaps}"]
    if repeated["judge"]:
        measures = ", ".join(repeated["unrepeated"]) or "nothing that these trials have"
        lines.append(
            f"The judge {visible(repeated['judge'], 80)} was left out: it was not asked, and not repeated were {measures}. "
            "Give it with --judge (and --judge-url) to repeat these too."
        )
    return lines


def left_out(recorded: PlanRecord, context: AuditContext) -> str:
    """The name of the run's judge where nobody judges now; empty where somebody does, or nobody did."""
    named = str(recorded.config.get("judge", "none"))
    return named if context.judge is None and named != "none" else ""


def _prepared(recorded: PlanRecord, given: Given, progress: Progress, opened: Opened) -> tuple[trials.Plan, AuditContext]:
    """The plan made anew from its claims, on model and data that are the run's.

    Raises:
        VerificationError: naming the first part in which they are not.
    """
    config = settle(recorded.config, given, needs=("model", "data", "text"))
    if config.judge != "none":
        kind.check_judge(config.judge)
    planned = recorded.context
    if max(config.random, config.singles, config.seeds) > len(recorded.trials):
        raise VerificationError("the plan lists fewer trials than its settings make")
    dataset = opened.dataset or datasets.load(config.data)
    _hold(planned, "data", dataset.sha256)
    if len(config.also) != len(recorded.also):
        raise VerificationError("the plan's other behaviours are not those that its settings name")
    # Whatever the user's own copies are called, scores are kept under the names that the run has for them.
    found = questions.others(config, opened)
    for one, old in zip(found, recorded.also, strict=True):
        _same({old.name: old.sha256}, {old.name: one.sha256})
    called = zip(config.also, found, recorded.also, strict=True)
    opened = replace(opened, also={source: replace(one, name=old.name) for source, one, old in called})
    arithmetic = plan_file.arithmetic_of(recorded)
    with arithmetic.whole():
        own = anew.places_of(recorded)[0].kind
        context = set_up(config, dataset, progress, arithmetic, partial(_hold, planned, "model"), opened, own)
    if context.judge is not None:
        judged = recorded.judge.fingerprint if recorded.judge else None
        if judged != context.judge.fingerprint:
            raise VerificationError(
                f"the judge {config.judge!r} here is another than the run's (--judge none leaves it out, and says so)"
            )
    claims = [held(claim, context) for claim in claims_of(recorded)]
    basis = plan_file.basis(context, dataset, [], rule(anew.places_of(recorded)[1], context.space.kind, recorded), recorded)
    _same(planned, basis.context)
    if basis.taus and recorded.taus and np.allclose(basis.taus, recorded.taus, rtol=NEAR_TAU):
        basis = basis.model_copy(update={"taus": recorded.taus})
    plan = trials.make(config, context.model.layout, claims, basis, memory_budget(context))
    # Which trials share a forward is the run's: on a device with other memory they would be grouped otherwise.
    banks = recorded.banks
    if {trial.id for trial in plan.trials} != {one for bank in banks for one in bank}:
        raise VerificationError("this version of locus plans other trials than the run's")
    return plan_file.deal(replace(plan, banks=banks), context), context


def _hold(context: JsonObject, name: str, own: str) -> None:
    """Hold one part of what trials are run on against the plan's, as soon as it is known."""
    _same({name: context.get(name)}, {name: own})


def _same(stated: JsonObject, own: JsonObject) -> None:
    if difference := first_difference(stated, own):
        raise VerificationError(f"the trials would be run on something else: {difference}")


def _more(result: Result, store: Store, unjudged: bool) -> set[str]:
    """Measures that a stored trial has and the repeated one has not, which only a judge that was left out may have given.

    Raises:
        VerificationError: naming one that no trial of this plan has.
    """
    more = {(split, measure) for split, measure in store.scored(result.id) if (split, measure) not in result.scores}
    for split, measure in sorted(more):
        if not (unjudged and metric(measure).needs_judge):
            raise VerificationError(
                f"trial {result.id} has stored scores of {split}, {measure}, that its repetition does not give"
            )
    return {measure for _, measure in more}


def _compare(result: Result, store: Store, largest: dict[str, float]) -> None:
    """Hold a repeated trial's scores against the stored ones; note the largest difference of each measure."""
    for (split, measure), values in result.scores.items():
        items = list(values)
        stored = store.scores(result.id, split, measure, items)
        fresh = np.array([values[item] for item in items], dtype=np.float64)
        gap = np.where(np.isnan(stored) & np.isnan(fresh), 0.0, np.abs(stored - fresh))
        wrong = ~(gap <= TOLERANCE * (1 + np.abs(stored)))
        largest[measure] = max(largest.get(measure, 0.0), float(np.nanmax(gap, initial=0.0)))
        allowed = 0 if metric(measure).smooth else max(1, int(JUMPS * len(items)))
        if wrong.sum() > allowed:
            at = int(np.argmax(wrong))
            raise VerificationError(
                f"trial {result.id} ({result.spec.role} {result.spec.arm}), {measure} of {split} item {items[at]}: "
                f"stored {stored[at]:.6g}, repeated {fresh[at]:.6g}; {int(wrong.sum())} of {len(items)} items differ"
            )
