"""report.html: one self-contained page without scripts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from locus import atomic, errors, registry, units
from locus.conclude import cost, diagnosis, entanglement, manifold, nulls, ranks, transfer
from locus.conclude.curve import described
from locus.metrics.base import Metric
from locus.plan.config import AuditConfig
from locus.records.beside import CurveClaim, Moved, Ranked
from locus.records.findings import ClaimVerdict, Finding
from locus.records.place import Measured
from locus.records.verdict import Verdict
from locus.report import chart, cite, html, rates, receipt, twins, words
from locus.report.answers import Answers
from locus.report.material import Material, mapped, read, sites
from locus.report.places import Place
from locus.shown import visible

STANDINGS = {"supported": "●", "refuted": "✕", "undecided": "?", "invalid": "–", "withheld": "○"}
ASKED = {
    "works": "Is the optimal edit at the claim as good as the optimal edit everywhere?",
    "special": "Is it better than the optimal edits at random Locations of the same size?",
    "layers": "And better than those at random Locations with as many in each layer? (beside the verdict)",
    "unique": "Do only few random Locations do as well?",
    "necessary": "Does the optimal edit everywhere but there fall short?",
}
TESTS = {
    "works": "paired non-inferiority over questions",
    "special": "rank among random Locations",
    "layers": "rank among random Locations of the claim's layers",
    "unique": "share of Locations, exact (Clopper–Pearson)",
    "necessary": "paired difference over questions",
}
# What a stranger can check with a shell alone: the receipt's hash, its id from the hash, every file by its hash in the receipt.
RECIPE = (
    r"""sed -n 's/^"body":\(.*\),$/\1/p' receipt.json | tr -d '\n' | sha256sum""",
    r"""sed -n 's/^"sha256":"\(.*\)",$/\1/p' receipt.json | tr a-f A-F | basenc -d --base16 -i | base32 | cut -c1-26""",
    r"""grep -oE '"[^":]+\.[a-z0-9]+":"[0-9a-f]{64}"' receipt.json | sed -E 's/"(.+)":"(.+)"/\2  \1/' | sha256sum -c""",
)
OPEN = 6  # questions whose answers are shown unfolded


def write(folder: Path, others: list[Path] | None = None, figures: bool = True, sign: bool = True) -> Path:
    """Write a run's report.html, figures and citations, and list them in its receipt if it has one.

    Args:
        folder: the run folder, finished or not.
        others: run folders to set beside it.
        figures: whether figures are drawn; where there are figures already, they are always drawn anew.
        sign: whether the user's key signs what is listed.

    Returns:
        The path of the page.

    Raises:
        UserError: if a folder is no run, or nothing can be written there.
    """
    with errors.whole("a run folder whose files are whole", folder):
        return _write(folder, [read(other) for other in others or []], figures, sign)


def _write(folder: Path, others: list[Material], figures: bool, sign: bool) -> Path:
    material = read(folder)
    figure_names: list[str] = []
    if figures or (folder / "figures").is_dir():
        from locus.report.figures import write as write_figures  # matplotlib is slow to come

        figure_names = write_figures(material, folder / "figures")
        atomic.sweep(folder / "figures")
    cited = cite.works(material.plan, material.verdict.versions["locus"], material.receipt.id if material.receipt else "")
    for ending, text in cite.forms(cited).items():
        atomic.replace(folder / f"cite.{ending}", text)
    page = render(material, others, cited, figure_names)
    atomic.replace(folder / "report.html", page)
    atomic.sweep(folder)
    receipt.seal_views(folder, sign)
    return folder / "report.html"


def render(material: Material, others: list[Material], cited: list[cite.Work], figure_names: list[str]) -> str:
    """The page's HTML.

    Args:
        material: the run.
        others: runs set beside it.
        cited: what the run used, and the run itself.
        figure_names: names of the figures that were written.
    """
    environment = html.environment()
    shown = {"amount": units.amount, "bare": units.bare, "difference": units.difference, "p_value": units.p_value}
    environment.filters |= shown
    plan, verdict = material.plan, material.verdict
    config, rows = AuditConfig.recorded(plan.config), table(material)
    columns, effect_columns, judged_columns = _columns(config.measures)
    places = words.random_places(verdict, material.places["random"])
    return html.render(
        environment,
        "page.html.j2",
        plan=plan,
        config=config,
        verdict=verdict,
        claims=[_shown(material, claim, config) for claim in verdict.claims],
        rows=rows,
        settings=(steered := [row for row in material.settings if row.role == "shift"]),
        steered=" and ".join(dict.fromkeys(words.steering(row.name) for row in steered)),
        edit="rank-1" if registry.shipped("edits", config.edit) else config.edit,
        columns=_measured(columns, rows),
        effect_columns=_measured(effect_columns, rows),
        judged_columns=_measured(judged_columns, rows) if verdict.judge else [],
        headings=words.headings(config.measures),
        measures={one.name: one.about for one in config.measures},
        limits=twins.limit(plan) + words.limits(plan, verdict, places, material.space.kind),
        twins=twins.twins(material, others),
        transferred=[transfer.told(one, verdict.prompt) for one in verdict.transfer],
        moved=[(one, moves(one)) for one in verdict.also],
        places=places,
        effects=effects(verdict),
        gained=diagnosis.gained(verdict.gain, verdict.metric) if verdict.gain else "",
        grid=sites(material),
        mapped=mapped(material.space),
        space=material.space,
        scored=any(claim.scores for claim in plan.claims if claim.origin == "probe"),
        answers=material.answers,
        open=OPEN,
        spoken=spoken_columns(config.measures, material.answers),
        compared=[row for one in (material, *others) for row in beside(one)] if others else [],
        took=cost.cost_line(verdict.seconds, verdict.cost),
        cited=cited,
        forms=cite.forms(cited),
        receipt=material.receipt,
        recipe=RECIPE,
        drawn=figure_names,
        asked=ASKED,
        tests=TESTS,
        marks=STANDINGS,
    )


@dataclass(frozen=True)
class ShownClaim:
    """A claim on the page.

    Attributes:
        claim: as in the verdict.
        chart: claim and ceiling against random Locations; None where there is nothing to draw.
        described: the chart in words.
        reason: where one reason answers all four questions (as where the ceiling has no effect), that reason, said once.
        next: what would settle what is open.
        curve: by length of search, how near to the optimum places are, and what would follow for the claim.
        way: where the claim's lead goes as searches near the optimum, in words.
        answers: question -> its answer; with random Locations of the claim's layers, their answer beside.
        nulls: what those say beside uniform ones, in words; "" where there are none.
        survives: whether *special* survives edits of higher ranks, in words; "" where there are none.
        ranks: these, each with what would follow for the claim.
    """

    claim: ClaimVerdict
    chart: chart.Chart | None
    described: str
    reason: str
    next: list[str]
    curve: list[tuple[int, dict[str, int | float | None], CurveClaim]]
    way: str
    rates: dict[str, str]
    unmeasured: str
    answers: list[tuple[str, Finding]]
    nulls: str
    survives: str
    ranks: list[tuple[Ranked, CurveClaim]]


def _shown(material: Material, claim: ClaimVerdict, config: AuditConfig) -> ShownClaim:
    metric, rows = material.verdict.metric, chart.verdict_rows(material, claim)
    drawing = chart.layout(rows, metric, chart.bound(rows, claim, material.verdict.gain))
    reasons = {finding.sentence for finding in claim.by_question.values()}
    reason = reasons.pop() if len(reasons) == 1 else ""
    steps, points = diagnosis.next_steps(claim, material.verdict), material.verdict.curve
    ours = [next(one for one in point.claims if (one.name, one.read) == (claim.name, claim.read)) for point in points]
    curve = [(point.rounds, point.share, one) for point, one in zip(points, ours, strict=True)]
    way = described(points, claim, metric)
    wrong = rates.error_rates(claim, config)
    answers = list(claim.by_question.items())
    if claim.special_in_layers is not None:
        answers.insert(1 + [name for name, _ in answers].index("special"), ("layers", claim.special_in_layers))
    beside, higher = nulls.compared(claim, metric), material.verdict.ranks
    survives = ranks.told(higher, claim, metric)
    mine = [(rank, one) for rank in higher for one in rank.claims if (one.name, one.read) == (claim.name, claim.read)]
    shown = (claim, drawing, chart.described(rows, metric), reason, steps, curve, way, *wrong, answers)
    return ShownClaim(*shown, beside, survives, mine)


@dataclass(frozen=True)
class Row:
    """A row of the results: by column, a mean with its interval (over several places: the least and the most)."""

    label: str
    cells: dict[str, Measured]

    def has(self, columns: Sequence[str]) -> bool:
        """Whether it has a number in any of some columns."""
        return not self.cells.keys().isdisjoint(columns)


def _columns(metrics: Sequence[Metric]) -> tuple[list[str], list[str], list[str]]:
    """What the page's tables show: metrics of test questions; side effects; other views of what a judge said, and of wording."""
    placed = sorted((one for one in metrics if one.page is not None), key=lambda one: one.page or 0)
    judged = [one.name for one in metrics if one.needs_judge and one.page is None]
    split = {aside: [one.name for one in placed if (one.of in ("text", "states")) is aside] for aside in (False, True)}
    return split[False], split[True], [*words.VIEWS, *judged]


def spoken_columns(metrics: Sequence[Metric], said: Sequence[Answers]) -> list[Metric]:
    """What the judge says of single answers: each notion that he gives a probability of, where any answer has one."""
    rows = [row for one in said for row in one.rows]
    return [
        one
        for one in metrics
        if one.needs_judge and one.name in one.notions and any(row.scores[one.name] is not None for row in rows)
    ]


def _measured(columns: Sequence[str], rows: list[Row]) -> list[str]:
    """The columns in which any row has a number."""
    return [name for name in columns if any(name in row.cells for row in rows)]


def table(material: Material) -> list[Row]:
    """Rows of the results."""
    verdict, places = material.verdict, material.places
    rows = [Row("no edit", _cells(place)) for place in places["base"]]
    rows += [Row(words.steered(place.name, place.setting), _cells(place)) for place in places["shift"]]
    for kind, several in words.by_steering(places["shift_random"]).items():
        rows.append(_range(f"{kind} at {words.counted(len(several), 'random Location')}", several))
    for place in places["shift_everywhere"]:
        rows.append(Row(words.steered(place.name, place.setting, everywhere=True), _cells(place)))
    rows += [Row(_ceiling(verdict, place), _cells(place)) for place in places["ceiling"]]
    for claim in verdict.claims:
        for kind, label in (("claimed", "optimal edit at"), ("complement", "optimal edit everywhere but at")):
            rows += [
                Row(f"{label} {_short(claim.name)} (read {claim.read})", _cells(place)) for place in _of(claim, places[kind])
            ]
        if random := _of(claim, places["random"]):
            size = material.space.kind.counted(claim.n_sites)
            label = f"optimal edits at {words.counted(len(random), 'random Location')} of {size} (read {claim.read})"
            rows.append(_range(label, random))
        if layered := _of(claim, places["random_in_layers"]):
            label = f"optimal edits at {words.counted(len(layered), 'random Location')} of its layers (read {claim.read})"
            rows.append(_range(label, layered))
    if single := places["single"]:
        rows.append(_range(f"optimal edits at {len(single)} single {material.space.kind.nouns}", single))
    return rows


def _of(claim: ClaimVerdict, places: list[Place]) -> list[Place]:
    """The places that belong to a claim in its read mode."""
    return [place for place in places if (place.claim, place.read) == (claim.name, claim.read)]


@dataclass(frozen=True)
class RunRow:
    """A claim in one read mode of a run, beside those of others: means in the run's own metric, by kind of place."""

    run: str
    verdict: Verdict
    claim: ClaimVerdict
    means: dict[str, float | None]


def beside(material: Material) -> list[RunRow]:
    """A run as rows of a table of several: one a claim and read mode, with what decides its verdict, in its own metric."""
    verdict, places, rows = material.verdict, material.places, []
    for claim in verdict.claims:
        mine = {"base": places["base"], "ceiling": places["ceiling"]}
        mine |= {kind: _of(claim, places[kind]) for kind in ("claimed", "random")}
        cells = {kind: _range("", several).cells.get(verdict.metric) for kind, several in mine.items()}
        means = {kind: None if cell is None else cell.mean for kind, cell in cells.items()}
        rows.append(RunRow(material.folder.resolve().name, verdict, claim, means))
    return rows


def _short(name: str) -> str:
    return visible(name.removeprefix("iti:").removeprefix("ceiling:"), 40)


def _ceiling(verdict: Verdict, place: Place) -> str:
    """The ceiling's label; its form is named where there are several."""
    called = "its own search" if verdict.gain is not None and verdict.gain.inner else "ceiling"
    return f"optimal edit everywhere ({called}" + (f", {_short(place.name)})" if len(verdict.ceiling) > 1 else ")")


def _cells(place: Place) -> dict[str, Measured]:
    """What was measured of a place, by column of the page."""
    cells, judged = dict(place.measures), place.judged
    if judged is not None:
        cells |= {} if judged.product_of_means is None else {"product": judged.product_of_means}
        cells |= {name if name == "both" else f"share_{name}": value for name, value in judged.share.items()}
        cells |= {f"corrected_{target}": value for target, value in judged.corrected.items()}
    return cells


def _range(label: str, places: list[Place]) -> Row:
    """Several places in one row: the mean of their means, and the least and most of them."""
    cells, measured = {}, [_cells(place) for place in places]
    for name in dict.fromkeys(name for one in measured for name in one):
        means = [mean for one in measured if name in one and (mean := one[name].mean) is not None]
        if means:
            cells[name] = Measured(mean=math.fsum(means) / len(means), interval=(min(means), max(means)), n=len(means))
    return Row(label, cells)


def moves(one: Moved) -> list[tuple[str, Measured, Measured | None, str]]:
    """What edits do to another behaviour, as rows of a table: label, gain, and of a claim its lead and rank."""
    rows: list[tuple[str, Measured, Measured | None, str]] = []
    for claim in one.claims:
        label = f"optimal edit at {_short(claim.name)} (read {claim.read})"
        rows.append((label, claim.gain, claim.lead, entanglement.place(claim)))
        if claim.random.n:
            rows.append((f"optimal edits at {words.counted(claim.random.n, 'random Location')}", claim.random, None, ""))
    for name, gain in one.gain.items():
        label = "optimal edit everywhere (ceiling)" if name == "ceiling" else words.steered(name, "")
        rows.append((label, gain, None, ""))
    return rows


def effects(verdict: Verdict) -> list[str]:
    """Side effects on ordinary text, one sentence an edit."""
    sentences = []
    for kind, what in (("claimed", "The optimal edit at the claim"), ("ceiling", "The ceiling"), ("shift", "ITI at the claim")):
        for place in verdict.places(kind):
            who = f"{words.steering(place.name)} at the claim" if kind == "shift" else what
            kl, ce = place.mean("kl"), place.mean("ce")
            if kl is not None and ce is not None:
                which = "" if kind == "ceiling" else f" ({_short(place.name)})"
                sentences.append(
                    f"{who}{which} moves the next-token distribution by {kl:.4f} nats a token (KL) and changes "
                    f"cross-entropy by {ce:+.4f} nats a token, over {place.measures['kl'].n} passages."
                )
    sentences = sentences or ["Not measured: this run read no ordinary text (text_passages = 0, or no trial has finished)."]
    return sentences + [said for one in verdict.departures if (said := manifold.noted(one))]
