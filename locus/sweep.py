"""Audits one after another, those of one model while it is loaded: what fails stands beside what does not.

Every audit is a run like any other. Its claims share the ceiling, the base model's passes and linearisation, and, where they are
of one size, the random Locations; audits of one model share the model, and of one behaviour what the cache holds.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from locus import claims
from locus.audit import audit
from locus.conclude.derive import recorded
from locus.conclude.family import adjusted, alone
from locus.errors import UserError
from locus.models.configured import load_configured
from locus.models.model import Model
from locus.plan.config import AuditConfig
from locus.plan.opened import Opened
from locus.records.findings import QUESTIONS, Finding, Findings
from locus.records.sweep import SWEEP_SCHEMA, Controlled, SweepRecord, SweptAudit, SweptClaim
from locus.records.verdict import Verdict
from locus.report.material import verdict_in
from locus.report.receipt import sealed_in
from locus.sites.kind import SiteKind
from locus.sites.space import SiteSpace

Progress = Callable[[str, float], None]
OF_MODEL = ("model", "revision", "adapter", "device", "device_map", "dtype", "trust_remote_code", "twin")  # say which it is


@dataclass(frozen=True)
class Cell:
    """One audit of a sweep, before it is begun.

    Attributes:
        folder: its run folder.
        config: all of its settings.
        opened: what is open already.
        kind: of the sites that its claims are of.
    """

    folder: Path
    config: AuditConfig
    opened: Opened
    kind: SiteKind

    @property
    def model(self) -> tuple[object, ...]:
        """By which the model is known."""
        return (id(self.opened.model), *(repr(getattr(self.config, name)) for name in OF_MODEL))


@dataclass(frozen=True)
class Outcome:
    """What a finished audit says.

    Attributes:
        verdict: as in its verdict.json.
        receipt: the id of its receipt.
        names: by source, what the audit calls a claim.
        alone: by name and read mode, a claim's answers as if it were the only one.
    """

    verdict: Verdict
    receipt: str
    names: dict[str, str]
    alone: dict[tuple[str, str], Findings]


@dataclass
class State:
    """How far a sweep is.

    Attributes:
        outcomes: by folder, of what is finished.
        failed: by folder, why an audit could not be made.
        unfit: by folder and source, why a claim could not be audited where others of its audit could.
        bugs: folders whose failure is ours to mend.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unfit: dict[tuple[str, str], str] = field(default_factory=dict)
    bugs: list[str] = field(default_factory=list)

    def look(self, cell: Cell) -> bool:
        """Whether an audit is finished; what it says is read once.

        Raises:
            UserError: if its files are not whole.
        """
        name, folder = cell.folder.name, cell.folder
        if name not in self.outcomes and (folder / "receipt.json").is_file():
            with recorded(folder) as record:
                verdict, sealed = verdict_in(folder, record), sealed_in(folder)
                if sealed is not None and not verdict.unfinished:
                    names = {source: one.name for source, one in zip(record.config.claims, record.plan.claims, strict=True)}
                    self.outcomes[name] = Outcome(verdict, sealed.id, names, alone(record))
                    self.fit(cell, record.space, str(record.plan.context.get("model")))
        return name in self.outcomes

    def fit(self, cell: Cell, space: SiteSpace, fingerprint: str) -> tuple[str, ...]:
        """The claims of an audit that a model can be asked about; why it cannot of the others is noted.

        Args:
            cell: the audit.
            space: the model's places of the claims' kind.
            fingerprint: of the model.
        """
        kept, config = [], cell.config
        for source in config.claims:
            try:
                if source in cell.opened.claims or not claims.is_heuristic(source):
                    claim = cell.opened.claims.get(source) or claims.given(source)
                    claim.check(fingerprint, space, config.model, carried=config.twin is not None)
                kept.append(source)
            except UserError as error:
                self.unfit[cell.folder.name, source] = str(error)
        return tuple(kept)


def run(cells: Sequence[Cell], state: State, progress: Progress, sign: bool, after: Callable[[], object]) -> None:
    """Do every audit that is not done.

    Args:
        cells: in order, those of one model together.
        state: told what failed.
        progress: told what goes on and the share of the whole.
        sign: whether receipts are signed.
        after: called when an audit has ended, well or not.
    """
    held: dict[tuple[object, ...], Model] = {}
    for number, cell in enumerate(cells):

        def say(what: str, share: float, number: int = number, name: str = cell.folder.name) -> None:
            progress(f"{number + 1} of {len(cells)}, {name}: {what}" if what else "", (number + share) / len(cells))

        name = cell.folder.name
        try:
            if state.look(cell):
                continue
            if cell.model not in held:
                held.clear()  # before the next is loaded, or both would have to fit
                gc.collect()
                say("loading the model", 0.0)
                held[cell.model] = cell.opened.model or load_configured(cell.config)
            model = held[cell.model]
            kept = state.fit(cell, SiteSpace.of(cell.kind, model.layout), model.fingerprint)
            if kept:
                config = cell.config.model_copy(update={"claims": kept})
                audit(config, cell.folder, say, sign, replace(cell.opened, model=model))
        except UserError as error:
            state.failed[name] = str(error)
        except Exception as error:  # a night's work is not to end over one of its parts
            state.failed[name] = f"a bug in locus: {type(error).__name__}: {str(error)[:300]}"
            state.bugs.append(name)
        after()


def gathered(cells: Sequence[Cell], state: State, level: float) -> SweepRecord:
    """What all audits say, and what holds over them: those that are finished, whoever made them.

    Args:
        cells: every audit.
        state: what failed; told of what is finished.
        level: rate of false discoveries.
    """
    audits: list[SweptAudit] = []
    family: list[SweptClaim] = []
    single: list[Findings | None] = []
    for cell in cells:
        try:
            state.look(cell)
        except UserError as error:
            state.failed[cell.folder.name] = str(error)
        audits.append(_audit(cell, state))
        for source in cell.config.claims:
            for read in cell.config.reads:
                claim, own = _claim(cell, state, source, read)
                family.append(claim)
                single.append(own)
    both = {question: adjusted([None if one is None else one.finding(question) for one in single]) for question in QUESTIONS}
    known: list[SweptClaim] = []
    for place, (claim, own) in enumerate(zip(family, single, strict=True)):
        if own is None:
            known.append(claim)
            continue
        outcome = state.outcomes[claim.audit].verdict.claim(claim.name, claim.read)
        answers = {
            question: Controlled(
                standing=outcome.finding(question).standing,
                **_ps(own.finding(question)),
                p_sweep=both[question][place].p,
                p_refuted_sweep=both[question][place].p_refuted,
            )
            for question in QUESTIONS
        }
        known.append(claim.model_copy(update={"answers": answers}))
    return SweepRecord(schema_=SWEEP_SCHEMA, level=level, audits=tuple(audits), claims=tuple(known))


def _ps(finding: Finding) -> dict[str, float | None]:
    return {"p": finding.p, "p_refuted": finding.p_refuted}


def _audit(cell: Cell, state: State) -> SweptAudit:
    """An audit as the record has it."""
    config, name = cell.config, cell.folder.name
    about = {"model": config.model, "behaviour": config.data, "seed": config.seed, "kind": cell.kind.name}
    done = {"receipt": state.outcomes[name].receipt} if name in state.outcomes else {}
    return SweptAudit.parse({"folder": name, **about, "metric": config.metric, "random": config.random, **done})


def _claim(cell: Cell, state: State, source: str, read: str) -> tuple[SweptClaim, Findings | None]:
    """A claim as the record has it, but for its answers, and these as if it were the only one."""
    name = cell.folder.name
    outcome = state.outcomes.get(name)
    if outcome is None or source not in outcome.names:
        why = state.unfit.get((name, source)) or state.failed.get(name, "")
        lacking = SweptClaim(audit=name, source=source, read=read)
        return lacking.model_copy(update={"failed": why}) if why else lacking, None
    said = outcome.verdict.claim(outcome.names[source], read)
    put = said.special.standing != "invalid"
    claim = SweptClaim(
        audit=name,
        source=source,
        name=said.name,
        read=read,
        location=said.location,
        lead=said.special.estimate if put else None,
        margin=said.special.margin if put else None,
    )
    return claim, outcome.alone.get((said.name, read))
