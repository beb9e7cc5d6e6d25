"""The verb: audit a claim that a behaviour is localized. Read this file and you know the whole flow."""

import time
from collections.abc import Callable
from pathlib import Path

from locus import atomic
from locus.behaviours.blind import logistic_baseline, negation_then_length
from locus.claims.claim import named_apart
from locus.conclude import derive as conclude
from locus.conclude.rule import rule
from locus.conclude.stopping import Stopping
from locus.machine import ranks
from locus.machine.torchrun import leads
from locus.plan import document as plan_file
from locus.plan import population, preconditions, trials
from locus.plan.config import AuditConfig
from locus.plan.context import memory_budget
from locus.plan.opened import NOTHING, Opened
from locus.plan.parts import Part
from locus.records.store import Store
from locus.records.verdict import Verdict
from locus.report import page, receipt
from locus.run import schedule
from locus.run.executors import at_work
from locus.run.setup import held, make_claim, set_up

Progress = Callable[[str, float], None]


def audit(
    config: AuditConfig,
    out: Path,
    progress: Progress = lambda what, share: None,
    sign: bool = True,
    opened: Opened = NOTHING,
    part: Part | None = None,
) -> Verdict:
    """Audit the claims of a configuration and write a run folder; run again, it goes on where it stopped.

    Args:
        config: what is audited and how.
        out: the run folder.
        progress: told what is being done and the share of the whole audit that is done.
        sign: whether the user's key signs the receipt.
        opened: what is open already, and is not loaded by its name.
        part: the share of the plan that is done here, where several machines share it; `merge` then concludes.

    Returns:
        The verdict, as written to `verdict.json`; of a part what can be said so far, and nothing is written.

    Raises:
        UserError: for everything the user can fix; all preconditions are checked together, before weights load.
    """
    started = time.monotonic()
    # Material: the questions, split by group; nothing is loaded before all preconditions hold.
    dataset = preconditions.check(config, out, opened)
    # With the threads that the run was begun with, where it goes on.
    arithmetic = plan_file.arithmetic(out)
    soon = 0 if (out / "receipt.json").exists() else arithmetic.own  # what has to come up does so while the model is loaded
    with at_work(config.executor, soon=soon) as team, arithmetic.whole(), atomic.room():
        # The model, checked against the slow path, and what it says unedited.
        context = set_up(config, dataset, _part(progress, 0.0, 0.1), arithmetic, opened=opened)
        # The claims, the plan with its rule, and the trials the store still lacks.
        space = context.space
        made = [held(opened.claims.get(source) or make_claim(source, config, context), context) for source in config.claims]
        old = plan_file.begun(out)
        made = made if old is not None and old.first_edition else named_apart(made)
        for claim in made:
            claim.check(context.model.fingerprint, space, config.model, carried=config.twin is not None)
        places = [claim.location for claim in made]
        population.check(config, space, places)
        judged_by = rule(population.bounded(config, space, places), space.kind, old)
        baselines = [negation_then_length(dataset.items), logistic_baseline(dataset.items, seed=config.seed)]
        basis = plan_file.basis(context, dataset, baselines, judged_by, old)
        plan = plan_file.deal(trials.make(config, context.model.layout, made, basis, memory_budget(context)), context)
        ranks.agree("plan", plan.record.to_json())
        plan_file.fix(plan, out)
        schedule.afford(plan, context)
        store = Store(out / "trials.sqlite")
        try:
            plan_file.note_time(plan, store)
            # A part sees too little of the others to stop early.
            enough = Stopping(plan.record, store) if part is None else lambda: False
            schedule.run(plan, store, context, out / "edits", team, _part(progress, 0.1, 1.0), enough, part)
            if part is not None:
                store.note("device", str(context.model.device))
                with conclude.recorded(out) as record:
                    return conclude.complete(record)
            verdict = conclude.write(out, store, time.monotonic() - started, plan.record)
            if leads():
                receipt.write(out, store, str(context.model.device), sign)
                page.write(out, figures=False, sign=sign)
            return verdict
        finally:
            store.close()


def _part(progress: Progress, begin: float, end: float) -> Progress:
    """Progress of what takes a part of the whole."""
    return lambda what, share: progress(what, begin + (end - begin) * share)
