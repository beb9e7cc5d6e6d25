"""Derive again everything that a receipt says of a run, from its plan and its stored scores.

A signature says who vouches for a receipt. Whether what it says follows from plan and scores is another question, and the
answer needs no trust: whatever can be computed is computed, and held against what is written.
"""

import json
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from locus.behaviours.items import content_hash
from locus.boundary import incoming
from locus.conclude import cost
from locus.conclude import derive as conclude
from locus.conclude import rule as verdict
from locus.conclude.record import Record
from locus.errors import UserError, VerificationError
from locus.plan import anew, reading
from locus.plan.config import AuditConfig
from locus.plan.document import also_of
from locus.plan.trials import VERSION as TRIAL
from locus.records.base import JsonObject
from locus.records.cost import Cost
from locus.records.labels import read_labels
from locus.records.plan import PlanRecord
from locus.records.receipt import Body, ClaimState
from locus.records.store import SECONDS, Store
from locus.records.verdict import Verdict
from locus.report import receipt

TOLERANCE = 1e-9  # relative: another numpy may sum in another order
STORE = "trials.sqlite"
STORE_BYTES, STORE_BASE = 16 << 30, 16 << 20  # of any store, and of one without a trial
TRIAL_BYTES, ROWS, ROW_BYTES, TOKEN_BYTES = 1 << 14, 16, 512, 64  # of a trial; rows of one of its questions; of a row; of a token
TIMED = ("trials", "this_call")  # seconds; what a call took is stated by whoever made it
# Signed, but nothing to hold it against: code, device and moment are the signer's word.
STATED = ("code", "device", "written")


@contextmanager
def copied_store(folder: Path, plan: PlanRecord | None = None) -> Iterator[Store]:
    """A copy of a run's store: opening a database writes beside it, and who verifies writes nothing.

    Args:
        folder: of the run.
        plan: the run's, which says how large its store may be; read there by default.

    Raises:
        VerificationError: if there is none, or it is not as locus writes it.
    """
    most = _most_bytes(plan or reading.read_plan(folder))
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("", "-wal"):
            path = folder / f"{STORE}{suffix}"
            if not suffix and not path.exists():
                raise VerificationError(f"the file {STORE} is missing")
            if path.exists() or path.is_symlink():
                if not incoming.regular(path, folder) or path.stat().st_size > most:
                    raise VerificationError(
                        f"{path.name} is no regular file of at most {most:,} bytes, which its plan could fill"
                    )
                shutil.copyfile(path, Path(place) / path.name, follow_symlinks=False)
        try:
            store = Store(Path(place) / STORE)
        except (sqlite3.Error, UserError, UnicodeDecodeError) as error:
            raise VerificationError(f"{STORE} is damaged: {error}") from error
        try:
            with store.within(SECONDS):
                store.check_values()
                yield store
        except (sqlite3.Error, UserError, UnicodeDecodeError) as error:
            raise VerificationError(f"{STORE} is damaged: {error}") from error
        finally:
            store.close()


def _most_bytes(plan: PlanRecord) -> int:
    """More than what all that a plan asks for takes in a store, with its log: scores, reasons, and what edited models say."""
    config = AuditConfig.recorded(plan.config)
    items = sum(map(len, plan.items.by_part.values())) + config.text_passages + sum(len(one.items) for one in plan.also)
    spoken = config.max_new_tokens * TOKEN_BYTES if config.judge != "none" else 0
    rows = ROWS * (1 + len(config.transfer))
    trial = TRIAL_BYTES + len(json.dumps(plan.trials[-1].to_json())) + items * (rows * ROW_BYTES + spoken)
    places = sum(len(one.location) for one in plan.trials)
    return min(STORE_BYTES, 2 * (STORE_BASE + len(plan.trials) * trial + places * ROW_BYTES))


def check_plan(plan: PlanRecord, body: Body) -> tuple[str, ...]:
    """See that a plan has the hashes that a receipt states, that its parts follow from one another, and the receipt's from it.

    Returns:
        The names of the claims whose sites do not follow from the plan's settings.

    Raises:
        VerificationError: with the first that does not.
    """
    if plan.rule.get("version") not in verdict.VERSIONS:
        judged, known = str(plan.rule.get("version"))[:40], " and ".join(verdict.VERSIONS)
        raise VerificationError(f"the run was judged by {judged}, this version of locus judges by {known}")
    fixed = {"sha256": content_hash(plan.hashed), "rule_sha256": content_hash(plan.rule)}
    same({"sha256": body.plan.sha256, "rule_sha256": body.plan.rule_sha256}, fixed, "the plan's")
    same({"sha256": plan.sha256, "rule_sha256": plan.rule_sha256}, fixed, "the plan's own")
    space, config = anew.places_of(plan)
    _follows("the rule", plan.rule, verdict.rule(config, space.kind, plan), "the settings")
    context = content_hash(plan.context)
    for trial in plan.trials:
        if trial.context != context or trial.id != content_hash([TRIAL, trial.spec])[:16]:
            raise VerificationError(f"the trial {trial.id} of the plan is another one than its id says")
    chosen_elsewhere = anew.check_claims(plan)
    listed = [trial.to_json() for trial in plan.trials]
    _follows("the list of trials", listed, anew.planned(plan), "settings and claims")
    asked = {name: content_hash([item.id for item in part]) for name, part in plan.items.by_part.items()}
    _follows("the plan's context", plan.context.get("items"), asked, "its questions")
    if len(plan.also) != len(config.also) or (config.form and not plan.dataset.form):
        raise VerificationError("the plan's behaviours are not those that its settings name")
    _follows("the plan's context", plan.context.get("also", {}), also_of(plan.also), "its other behaviours")
    hashes = {"data": plan.dataset.sha256, "prompt": content_hash(plan.prompt.to_json())}
    _follows("the plan's context", {name: plan.context.get(name) for name in hashes}, hashes, "its data and prompt")
    parts = receipt.of_plan(plan)
    facts = {"config": parts["config"], "context": parts["context"]}
    facts |= {"model": parts["model"].to_json(), "dataset": parts["dataset"].to_json()}
    _follows("the receipt", body.model_dump(mode="json", include=set(facts)), facts, "the plan")
    return chosen_elsewhere


def check_results(plan: PlanRecord, folder: Path, body: Body) -> list[ClaimState]:
    """See that tables, verdict and the receipt's claims follow from plan and store.

    Returns:
        The claims' standings.

    Raises:
        VerificationError: with the first that does not.
    """
    with copied_store(folder, plan) as store:
        broken = str(store.db.execute("PRAGMA integrity_check").fetchone()[0])
        if broken != "ok":
            raise VerificationError(f"{STORE} is damaged: {broken.splitlines()[0]}")
        same(body.tables, receipt.table_hashes(store.db), f"{STORE}, table")
        record = Record(plan, store, labels=read_labels(folder, plan.sha256))
        _check_trials(record)
        derived = conclude.derive(record)
        took = cost.summary(record.done, store.counts())
        fixed = store.meta("plan_fixed")
    written = incoming.read_json(folder / "verdict.json", "the run's verdict.json", inside=folder)
    check_verdict(written, derived, took)
    stated = body.model_dump(mode="json", include={"seeds", "unfinished", "versions"})
    _follows("the receipt", stated, {name: written[name] for name in stated}, "the verdict")
    _follows("the receipt", body.plan.fixed, fixed, "the store")
    if fixed is not None and fixed.partition(" ")[0] != plan.sha256:
        raise VerificationError("the store was begun under another plan than the one beside it")
    standings = [receipt.standing(claim) for claim in derived.claims]
    if difference := first_difference(_listed(body.claims), _listed(standings)):
        raise VerificationError(f"the receipt's claims do not follow from the scores: {difference}")
    return standings


def _listed(claims: Sequence[ClaimState]) -> list[JsonObject]:
    return [claim.to_json() for claim in claims]


def _check_trials(record: Record) -> None:
    """See that every finished trial is one of the plan's."""
    planned = {trial.id: trial for trial in record.plan.trials}
    for identity, trial in record.done.items():
        one = planned.get(identity)
        alike = one is not None and (trial.spec is one or trial.spec.to_json() == one.spec)
        if one is None or not alike or (trial.role, trial.arm, trial.claim) != (one.role, one.arm, one.claim):
            raise VerificationError(f"the trial {str(identity)[:40]} of {STORE} is not the plan's")


def check_verdict(written: Any, derived: Verdict, took: Cost) -> None:
    """See that a verdict says what follows from plan and scores, and nothing else but versions and a time.

    Raises:
        VerificationError: with the first difference.
    """
    if not isinstance(written, dict):
        raise VerificationError("verdict.json is no JSON object")
    # Verdicts of before work was counted have none.
    whole = (derived.model_copy(update={"cost": took}) if "cost" in written else derived).to_json()
    difference = first_difference({name: written.get(name) for name in whole}, whole)
    if difference:
        raise VerificationError(f"the verdict does not follow from the scores: {difference}")
    if added := sorted(written.keys() - whole.keys() - {"versions", "seconds"}):
        raise VerificationError(f"the verdict says something that follows from nothing: {added[0][:80]}")
    seconds, versions = written.get("seconds"), written.get("versions")
    if not isinstance(seconds, dict) or set(seconds) != set(TIMED) or not all(map(_duration, seconds.values())):
        raise VerificationError("the verdict does not say how long the audit took")
    if not isinstance(versions, dict) or not all(isinstance(one, str) and len(one) < 100 for one in versions.values()):
        raise VerificationError("the verdict does not say by which versions it was computed")


def _duration(value: Any) -> bool:
    return isinstance(value, int | float) and value >= 0


def _follows(what: str, stated: Any, derived: Any, source: str) -> None:
    if difference := first_difference(stated, json.loads(json.dumps(derived))):
        raise VerificationError(f"{what} does not follow from {source}: {difference}")


def same(stated: dict[str, str], derived: dict[str, str], what: str) -> None:
    """Raise at the first name, in order, whose hash is not the stated one.

    Raises:
        VerificationError: naming it.
    """
    for name in sorted(stated.keys() | derived.keys()):
        if name not in derived:
            raise VerificationError(f"{what} {name} is missing")
        if name not in stated:
            raise VerificationError(f"{what} {name} is not in the receipt")
        if stated[name] != derived[name]:
            raise VerificationError(f"{what} {name} has SHA-256 {derived[name]}, the receipt says {stated[name]}")


def first_difference(stated: Any, derived: Any, where: str = "") -> str:
    """Where two JSON values first differ, in words; empty if they agree (numbers to 1e-9, relative)."""
    if isinstance(stated, dict) and isinstance(derived, dict):
        for name in [*stated, *(name for name in derived if name not in stated)]:
            if (name in stated) != (name in derived):
                return f"{where}.{name} is only in one of them".lstrip(".")
            if difference := first_difference(stated[name], derived[name], f"{where}.{name}".lstrip(".")):
                return difference
        return ""
    if isinstance(stated, list) and isinstance(derived, list) and len(stated) == len(derived):
        parts = (first_difference(old, new, f"{where}[{at}]") for at, (old, new) in enumerate(zip(stated, derived, strict=True)))
        return next((part for part in parts if part), "")
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (stated, derived))
    if numbers and math.isclose(stated, derived, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return ""
    return "" if stated == derived and type(stated) is type(derived) else f"{where} is stated as {stated!r}, found {derived!r}"
