"""plan.json: what an audit will do and by which rule it will judge, written before the first result and never changed."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from locus import atomic
from locus.behaviours.blind import BlindScore
from locus.behaviours.items import TRUTH, Dataset, Item, content_hash, marked_hash
from locus.boundary import incoming
from locus.boundary.notices import notice
from locus.errors import UserError
from locus.judges.base import Learner
from locus.judges.kind import asker_of, known_errors, notions_of
from locus.machine.threads import Arithmetic
from locus.machine.workers import fitting
from locus.plan import reading
from locus.plan.config import SINCE_FIRST
from locus.plan.context import AuditContext, Elsewhere, memory_budget
from locus.plan.trials import Plan
from locus.records.base import JsonObject
from locus.records.judge import ConfusionRecord, JudgeRecord
from locus.records.plan import (
    FIRST_PLAN,
    PLAN_SCHEMA,
    ArithmeticRecord,
    BlindRecord,
    DatasetRecord,
    ItemRecord,
    ItemsRecord,
    ModelRecord,
    OtherRecord,
    PlanBasis,
    PlanRecord,
    PlanSchema,
    PromptRecord,
)
from locus.records.store import Store
from locus.sites.positions import is_span
from locus.stats.judged import Confusion
from locus.stats.proportions import exact_interval


def begun(out: Path) -> PlanRecord | None:
    """The plan in a run folder, under which the run goes on; None where there is none."""
    return reading.read_plan(out) if (out / "plan.json").exists() else None


class ThreadsNotice(UserWarning):
    """A run goes on in a process that would compute it otherwise by itself."""


def arithmetic(out: Path) -> Arithmetic:
    """What a run is computed with: as the plan in its folder says, which is told where this process would do otherwise."""
    if not (out / "plan.json").exists():
        return Arithmetic.here()
    stated = arithmetic_of(reading.read_plan(out))
    if stated.threads is None:
        notice(
            "the plan of this run does not say with how many threads it was begun (the first edition's did not). It goes on with "
            f"{stated.own}; if these are not as many, its last digits differ.",
            ThreadsNotice,
            once=False,
        )
    elif stated.threads != stated.own:
        notice(
            f"this run was begun with {stated.threads} threads and goes on with {stated.threads}, though this process would have "
            f"{stated.own} (OMP_NUM_THREADS, or the cores it may use): with another number its last digits would differ.",
            ThreadsNotice,
            once=False,
        )
    return stated


def arithmetic_of(plan: PlanRecord) -> Arithmetic:
    """What a plan says its numbers are computed with."""
    return Arithmetic.of(plan.arithmetic.to_json() if plan.arithmetic else {})


def deal(plan: Plan, context: AuditContext) -> Plan:
    """Settle with how many threads each bank is computed, and note it in the plan: one where as many banks run side by side as
    there are threads, else all.

    What the plan in a folder has settled stands, whatever this process could do: only so are the same numbers computed.

    Args:
        plan: all trials.
        context: what they are run on; it is told.
    """
    known, model, within = context.arithmetic, context.model, memory_budget(context)
    banks = [[plan.trial(identity) for identity in bank] for bank in plan.banks]
    # What is spent on a judge must be counted in one place; processes that hold slices go through the banks together.
    alone = model.device.type != "cpu" or asker_of(context.judge) is not None or context.config.tp_plan is not None
    fit = 1 if alone else fitting(known.own, max(sum(within.takes(one, model.layout) for one in bank) for bank in banks))
    trained = sum(bank[0].recipe is not None for bank in banks)
    settled = replace(
        known,
        bank=known.bank or (1 if fit == known.own <= trained else known.own),
        held=known.held or max(1, len(context.parts["test"].base.residuals.layers)),  # one that is run whole holds none
    )
    context.arithmetic = replace(settled, at_once=fit if settled.bank == 1 else 1)
    return plan if plan.basis.first_edition else replace(plan, arithmetic=ArithmeticRecord.parse(settled.stated))


def basis(
    context: AuditContext, dataset: Dataset, baselines: list[BlindScore], rule: JsonObject, old: PlanRecord | None = None
) -> PlanBasis:
    """The plan but for the trials: configuration, what it is run on, and the rule.

    Only `context` enters the trials' ids: what can change a trial's numbers.

    Args:
        context: model, questions and configuration.
        dataset: the questions.
        baselines: what rules that never read the question reach.
        rule: by which the verdict will be reached.
        old: the plan that the run was begun with, under which it goes on; it lacks what came later.
    """
    config, model = context.config, context.model
    items, text, sample = context.items, context.prompt, context.sample
    identity: JsonObject = {
        "model": model.fingerprint,
        "dtype": str(model.dtype),
        "data": dataset.sha256,
        "split": context.split.sha256,
        "items": {name: content_hash([item.id for item in part]) for name, part in items.items()},
        "prompt": text.sha256,
        "text": [sample.sha256, config.text_tokens] if sample else None,
        "features": [config.features, config.seed],
        "tokens": config.tokens,
    }
    if config.transfer:
        identity["transfer"] = {one.prompt.name: one.prompt.sha256 for one in context.elsewhere if one.dataset is None}
    if is_span(at := context.space.kind.at):
        asked = [*items.values(), *(one.items for one in context.elsewhere)]
        identity["span"] = {at: content_hash([marked_hash(part, at) for part in asked])}
    others = tuple(_other(one, one.dataset) for one in context.elsewhere if one.dataset is not None)
    if others:
        identity["also"] = also_of(others)
    more: dict[str, object] = {"taus": context.taus} if config.taus == "auto" and context.parts else {}
    more |= {"also": others} if others else {}
    schema: PlanSchema = PLAN_SCHEMA if old is None else old.schema_
    settings: JsonObject = config.as_first() if schema == FIRST_PLAN else config.model_dump(mode="json")
    if old is not None:  # a setting that is newer than the plan, and asks for nothing, is not in it
        settings = {name: value for name, value in settings.items() if name in old.config or SINCE_FIRST.get(name, "") != value}
    plain = PlanBasis(
        schema_=schema,
        config=settings,
        context=identity,
        rule=rule,
        rule_sha256=content_hash(rule),
        model=_model(context, old),
        dataset=DatasetRecord(
            name=dataset.name,
            licence=dataset.licence,
            n_items=len(dataset.items),
            sha256=dataset.sha256,
            blind=tuple(BlindRecord.parse(one.to_dict()) for one in baselines),
            **({"form": True} if dataset.form else {}),
        ),
        prompt=PromptRecord.parse(text.record),
        judge=_judge(context, old),
        items=ItemsRecord(**{name: _items(part) for name, part in items.items()}),
    )
    return plain.model_copy(update=more) if more else plain


def _items(items: Sequence[Item]) -> tuple[ItemRecord, ...]:
    return tuple(ItemRecord(id=item.id, group=item.group, question=item.question) for item in items)


def _other(one: Elsewhere, dataset: Dataset) -> OtherRecord:
    """Another behaviour as a plan has it."""
    return OtherRecord(
        name=dataset.name,
        sha256=dataset.sha256,
        licence=dataset.licence,
        prompt=PromptRecord.parse(one.prompt.record),
        items=_items(one.items),
        **({"form": True} if dataset.form else {}),
    )


def also_of(others: Sequence[OtherRecord]) -> JsonObject:
    """What of other behaviours can change a trial's numbers: hashes of data, chosen questions and prompt, by name."""
    return {
        one.name: [one.sha256, content_hash([item.id for item in one.items]), content_hash(one.prompt.to_json())]
        for one in others
    }


def _model(context: AuditContext, old: PlanRecord | None) -> ModelRecord:
    """Which model it is; in words and with the checks of the plan that the run was begun with, if it was."""
    model, checks = context.model, tuple(context.checked)
    sizes = model.layout.to_dict(context.space.kind.point)
    if old is not None:
        sizes["shape"] = old.model.anatomy.shape
        known = {_checked(one) for one in old.model.checks}
        checks = tuple(one for one in checks if _checked(one) in known)
    told: JsonObject = {"without": dict(model.off)} if model.off else {}
    about = {"name": model.name, "quantised": model.quantised, "anatomy": sizes, "checks": list(checks)}
    return ModelRecord.parse({**about, **told})


def _checked(check: str) -> str:
    """What a check compared, without what it found."""
    return check.partition(" (")[0]


def _judge(context: AuditContext, old: PlanRecord | None) -> JudgeRecord | None:
    """Who judges, what is known of its errors, and how many of the questions it learned from; None where nobody does.

    All of it is in the plan, so that the corrected rates follow from plan and scores alone.
    """
    judge, config = context.judge, context.config
    if judge is None:
        return None
    errors = known_errors(judge, Path(config.judge_figures) if config.judge_figures else None)
    seen = judge.seen([item.question for item in context.items["test"]]) if isinstance(judge, Learner) else None
    # A plan that was begun before intervals were stated goes on without.
    plain = old is not None and not any("sensitivity_interval" in one.model_fields_set for one in _known(old))
    return JudgeRecord(
        name=judge.name,
        fingerprint=judge.fingerprint,
        confusion={target: ConfusionRecord.parse(asdict(one) | ({} if plain else _spans(one))) for target, one in errors.items()},
        seen=None if seen is None else sum(seen),
        **({} if notions_of(judge) == TRUTH else {"notions": notions_of(judge)}),
    )


def _known(plan: PlanRecord) -> Iterable[ConfusionRecord]:
    """What a plan knows of its judge's errors."""
    return plan.judge.confusion.values() if plan.judge else ()


def _spans(errors: Confusion) -> JsonObject:
    """The exact intervals of a judge's errors, where there are labelled answers of the kind."""
    shares = {"sensitivity": (errors.sensitivity, errors.positives), "specificity": (errors.specificity, errors.negatives)}
    spans = {name: exact_interval(share, count) for name, (share, count) in shares.items() if count}
    return {f"{name}_interval": list(span) for name, span in spans.items()}


def fix(plan: Plan, out: Path) -> None:
    """Write the plan, or see that the folder's plan is this one.

    Raises:
        UserError: naming what differs, if the folder holds another plan; or if the folder cannot be written.
    """
    path = out / "plan.json"
    new = plan.record.to_json()
    content = json.dumps(new, indent=1, sort_keys=True, allow_nan=False) + "\n"
    if path.exists():
        recorded = reading.read_plan(out)
        old = recorded.to_json()
        if old != new:  # all of it: whoever made the folder could have written any hash
            differ = [part for part in sorted({*old, *new}) if old.get(part) != new.get(part) and part != "sha256"]
            if differ == ["model"] and {**new["model"], "checks": []} == {**old["model"], "checks": []}:
                raise UserError(
                    "arithmetic like that with which this run was begun",
                    "checks of its model that come out otherwise in their last digits",
                    "Go on with as many threads as it was begun with (OMP_NUM_THREADS), on such a machine and with the same "
                    "versions of torch and transformers; or give another --out.",
                )
            raise UserError(
                "the plan that this run folder was begun with",
                f"another one: {', '.join(differ)[:200] or 'its hash'} differ",
                f"{_why(recorded, plan.record)} Give another --out.",
            )
        atomic.folder(out / "edits")
        return
    if len(content) > incoming.JSON_BYTES:  # it is ASCII
        raise UserError(
            f"a plan of {incoming.JSON_BYTES >> 20} MB or less, which can be read again",
            f"one of {len(content) >> 20} MB, with {len(new['trials']):,} trials",
            "Ask for fewer random Locations, seeds or settings; or share the claims out over the audits of a sweep.",
        )
    try:
        atomic.folder(out)
        atomic.replace(path, content)  # first: a folder that holds anything else, and no plan, is none of ours
        atomic.folder(out / "edits")
    except OSError as error:
        raise UserError("a folder that can be written", f"{str(out)!r} ({error})", "Give another --out.") from error


def _why(old: PlanRecord, new: PlanRecord) -> str:
    """What must have changed since a plan was written."""
    same = old.prompt.to_json() == new.prompt.to_json()
    if old.prompt.name == new.prompt.name == "chat" and not same and "template_date" not in old.config:
        return "The chat template writes another prompt than on the day the run was begun, as one that writes the date does."
    if not same:
        return "The prompt is another: the model's chat template or locus itself has changed since."
    return "The model, the data or locus itself has changed since."


def note_time(plan: Plan, store: Store) -> None:
    """Note in the store, beside the plan's hash, when the plan was fixed; once, and only while there is no result."""
    if not store.done():
        store.note("plan_fixed", f"{plan.sha256} {datetime.now(UTC).isoformat(timespec='seconds')}")
