"""Many audits at once: models, behaviours, claims and seeds crossed, each combination a run, one table over all of them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.door.asked import asked
from locus.door.run import Run
from locus.door.showing import Wanted, note, showing
from locus.door.verbs import INTERRUPTED, TEMPORARY
from locus.errors import UserError, raise_all
from locus.models import devices
from locus.records.sweep import SweepRecord, SweptClaim
from locus.shown import visible

if TYPE_CHECKING:
    import pandas

    from locus.claims.claim import Claim
    from locus.door.behaviour import Behaviour
    from locus.models.model import Model
    from locus.plan.sweep import Wanted as WantedAudit
    from locus.sweep import Cell

Several = Sequence[Any] | Any | None


@dataclass(frozen=True)
class Swept:
    """Many audits, and what holds over all of them.

    Attributes:
        folder: of them all; `sweep.html` is their page.
        record: their answers, as in `sweep.json`.
        runs: those that are finished, by the name of their folder.
        bugs: folders of audits that a bug of ours ended.
    """

    folder: Path
    record: SweepRecord
    runs: dict[str, Run]
    bugs: tuple[str, ...] = ()

    def found(self, question: str = "special", against: bool = False) -> tuple[SweptClaim, ...]:
        """The claims that a question is answered for (or, `against`, is refuted for) at the sweep's rate of false discoveries."""
        return self.record.found(question, against)

    def frame(self) -> "pandas.DataFrame":
        """A row for every claim: model, behaviour, seed, claim, standings, lead, and p as they are and over the sweep."""
        import pandas

        audits = {one.folder: one for one in self.record.audits}
        rows = []
        for one in self.record.claims:
            own = audits[one.audit]
            row: dict[str, object] = {"model": own.model, "behaviour": own.behaviour, "seed": own.seed, "claim": one.source}
            row |= {"read": one.read, "metric": own.metric, "lead": one.lead, "margin": one.margin}
            for question, answer in one.answers.items():
                row |= {question: answer.standing, f"{question}_p": answer.p, f"{question}_p_sweep": answer.p_sweep}
                row |= {f"{question}_p_refuted": answer.p_refuted, f"{question}_p_refuted_sweep": answer.p_refuted_sweep}
            rows.append({**row, "failed": one.failed, "folder": one.audit})
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        from locus.conclude.family import described

        return "\n".join(
            [f"{len(self.runs)} audits in {visible(str(self.folder), 200)}", *(f"  {one}" for one in described(self.record))]
        )


def sweep(
    file: str | Path | None = None,
    *,
    models: "str | Model | Sequence[str | Model] | None" = None,
    behaviours: "str | Behaviour | Sequence[str | Behaviour | Any] | None" = None,
    claims: "str | Claim | Sequence[str | Claim] | None" = None,
    seeds: int | Sequence[int] | None = None,
    level: float | None = None,
    out: str | Path | None = None,
    part: str | None = None,
    sign: bool = True,
    progress: Wanted = None,
    **settings: Any,
) -> Swept:
    """Audit every combination of some models, behaviours, claims and seeds; each is a run with its own receipt.

    Claims of one model, behaviour and seed are one audit, so that they share the ceiling and the random Locations of their size;
    of several kinds of site they are one each. What cannot be audited stands beside what can, with the reason. Over all claims
    together the rate of false discoveries is controlled, question by question (Benjamini and Hochberg).

    Args:
        file: a TOML file with `models`, `behaviours`, `claims`, `seeds`, `level`, `[settings]`, and blocks (docs/scale.md).
        models: names, or as `load` or `wrap` give them; the default model by default.
        behaviours: names, paths, or anything that `behaviour` takes.
        claims: as of `audit`; `probe` by default.
        seeds: of splits, draws, starts and resampling; 0 by default.
        level: rate of false discoveries, 0.1 by default.
        out: folder for them all: a run folder each, `sweep.json` and `sweep.html`. The same call again goes on where it stopped,
            and tries again what failed; one that asks for more takes over what is there. Without it a temporary folder.
        part: such as `3/8`: do only every eighth audit from the third on, where several machines share the folder; the same call
            without it puts the table together.
        sign: sign receipts with your key.
        progress: as of `audit`.
        settings: of every audit, by name.

    Returns:
        The audits: `.found("special")`, `.frame()`, `.runs`.

    Raises:
        UserError: for everything that can be known to be wrong before the first model is loaded.
        KeyboardInterrupt: as it came; what is finished is kept.

    Example:
        >>> import locus
        >>> quick = {"epochs": 4, "train": 36, "random": 11, "alpha": 0.25, "progress": False, "sign": False}
        >>> swept = locus.sweep(models="planted:localized:3", claims=["1.1", "0.2"], level=0.25, **quick)
        >>> [one.source for one in swept.found("special")], [one.source for one in swept.found("special", against=True)]
        (['1.1'], ['0.2'])

    Source: Benjamini & Hochberg 1995.
    """
    from locus.machine.threads import settle

    settle()
    from locus.plan.parts import Part
    from locus.plan.sweep import from_file, wanted

    given = {"models": _listed(models), "behaviours": _behaviours(behaviours), "claims": _listed(claims), "seeds": _listed(seeds)}
    told = from_file(None if file is None else Path(file), {**given, "level": level})
    mine = None if part is None else Part.parse(part)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="locus-sweep-"))
    if (folder / "plan.json").exists():
        raise UserError("a folder for several runs", f"{str(out)!r}, which is one run", "Give another --out.")
    cells = _cells(wanted(told, settings), folder)
    _notice(cells, told["level"], progress)
    if out is None:
        note(TEMPORARY.format(folder), progress)
    from locus.report.sweep import write
    from locus.sweep import State, gathered, run

    state = State()

    def keep() -> SweepRecord:
        record = gathered(cells, state, told["level"])
        if mine is None:  # else several machines would write it
            write(record, folder)
        return record

    ours = cells if mine is None else cells[mine.number - 1 :: mine.count]
    try:
        with showing(progress) as say:
            run(ours, state, say, sign, keep)
    except KeyboardInterrupt as error:
        error.add_note(INTERRUPTED.format(str(folder)))
        raise
    record = keep()
    runs = {cell.folder.name: Run(cell.folder) for cell in cells if cell.folder.name in state.outcomes}
    return Swept(folder, record, runs, tuple(state.bugs))


def cells_of(file: str | Path, settings: Mapping[str, Any]) -> "list[Cell]":
    """Every audit that a file asks for.

    Raises:
        UserError: as `sweep`.
    """
    from locus.plan.sweep import from_file, wanted

    return _cells(wanted(from_file(Path(file), {}), settings), Path())


def _listed(value: Several) -> tuple[Any, ...] | None:
    """One or several, as several."""
    return None if value is None else tuple(value) if isinstance(value, list | tuple | range) else (value,)


def _behaviours(value: Several) -> tuple[Any, ...] | None:
    """Likewise; a list of rows is one behaviour."""
    rows = isinstance(value, list | tuple) and value and all(isinstance(one, dict) for one in value)
    return (value,) if rows else _listed(value)


def _cells(audits: "Sequence[WantedAudit]", folder: Path) -> "list[Cell]":
    """Every audit with all of its settings, each kind of site by itself.

    Raises:
        UserError: naming everything that can be known to be wrong with any of them now.
    """
    from locus import claims
    from locus.claims import given
    from locus.plan.opened import NOTHING
    from locus.plan.population import kind_asked, levels
    from locus.plan.preconditions import early
    from locus.plan.sweep import folder_of
    from locus.sites.kind import default, kind_of
    from locus.sweep import Cell

    wrong: dict[str, UserError] = {}
    cells: dict[str, Cell] = {}
    looked_at: set[str] = set()
    for one in audits:
        told = {"common_random": True, **one.settings, "seed": one.seed}
        preset, config = str(told.pop("preset", "quick")), told.pop("config", None)
        try:
            resolved, opened = asked(one.model, one.behaviour, one.claims, preset, config, told)
            devices.check_one(resolved.tp_plan)
            kinds: dict[str, list[str]] = {}
            for source in resolved.claims:
                made = opened.claims.get(source) if opened is not None else None
                heuristic = made is None and claims.is_heuristic(source)
                name = default().name if heuristic else (made or given(source)).location.kind
                kinds.setdefault(name, []).append(source)
            for name, sources in kinds.items():
                own = resolved.model_copy(update={"claims": tuple(sources)})
                place = folder / folder_of(own, name)
                cells[place.name] = Cell(place, own, opened or NOTHING, kind_of(name))
                if (key := own.model_copy(update={"seed": 0}).model_dump_json()) not in looked_at:
                    looked_at.add(key)  # what can be known now does not hang on the seed
                    kind_asked(own, opened.claims if opened is not None else {})
                    early(own, opened=opened, fitted=False)  # a claim that does not fit one model may fit another
                    raise_all(levels(own))
        except UserError as error:
            wrong.setdefault(str(error), error)
    raise_all(list(wrong.values()))
    return list(cells.values())


def _notice(cells: "Sequence[Cell]", level: float, progress: Wanted) -> None:
    """Say beforehand where a single claim could not be found special, whatever it is."""
    from locus.conclude.family import least_found

    count = sum(len(cell.config.claims) * len(cell.config.reads) for cell in cells)
    random = min(cell.config.random for cell in cells)
    if random and (least := least_found(count, random, level)) > 1:
        note(
            f"With {random} random Locations none of {count} claims can be found special over the sweep unless at least {least} "
            "rank first. Raise random if fewer are expected.",
            progress,
        )
