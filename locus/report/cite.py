"""How to cite: the methods a run used and the run itself, as BibTeX, RIS, EndNote and CITATION.cff."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locus import atomic
from locus.boundary import outputs
from locus.plan import reading
from locus.records.plan import PlanRecord
from locus.report.receipt import sealed_in
from locus.report.results import verdict_of
from locus.shown import tex, visible


@dataclass(frozen=True)
class Work:
    """One thing to cite; `kind` is article or misc, `where` a journal or archive id."""

    key: str
    authors: tuple[str, ...]
    title: str
    year: str
    where: str
    kind: str = "article"
    doi: str = ""
    note: str = ""


def _arxiv(key: str, authors: str, title: str, number: str) -> Work:
    year = "20" + number[:2]
    return Work(key, tuple(authors.split("; ")), title, year, f"arXiv:{number}", doi=f"10.48550/arXiv.{number}")


EDITING = _arxiv(
    "wang2025editing", "Wang, Zihao; Veitch, Victor", "Does Editing Provide Evidence for Localization?", "2502.11447"
)
ITI = _arxiv(
    "li2023iti",
    "Li, Kenneth; Patel, Oam; Viégas, Fernanda; Pfister, Hanspeter; Wattenberg, Martin",
    "Inference-Time Intervention: Eliciting Truthful Answers from a Language Model",
    "2306.03341",
)
TRUTHFUL = _arxiv(
    "lin2021truthfulqa",
    "Lin, Stephanie; Hilton, Jacob; Evans, Owain",
    "TruthfulQA: Measuring How Models Mimic Human Falsehoods",
    "2109.07958",
)
IPO = _arxiv(
    "azar2023ipo",
    "Azar, Mohammad Gheshlaghi; Rowland, Mark; Piot, Bilal; Guo, Daniel; Calandriello, Daniele; Valko, Michal; Munos, Rémi",
    "A General Theoretical Paradigm to Understand Learning from Human Preferences",
    "2310.12036",
)
DPO = _arxiv(
    "rafailov2023dpo",
    "Rafailov, Rafael; Sharma, Archit; Mitchell, Eric; Ermon, Stefano; Manning, Christopher D.; Finn, Chelsea",
    "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    "2305.18290",
)
RANK = Work(
    "phipson2010permutation",
    ("Phipson, Belinda", "Smyth, Gordon K."),
    "Permutation P-values Should Never Be Zero: Calculating Exact P-values When Permutations Are Randomly Drawn",
    "2010",
    "Statistical Applications in Genetics and Molecular Biology",
    doi="10.2202/1544-6115.1585",
)
EXACT = Work(
    "clopper1934confidence",
    ("Clopper, C. J.", "Pearson, E. S."),
    "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    "1934",
    "Biometrika",
    doi="10.1093/biomet/26.4.404",
)


def works(plan: PlanRecord, version: str, receipt: str = "") -> list[Work]:
    """The methods that a run used, and the run itself, last.

    Args:
        plan: the run's plan.
        version: of locus.
        receipt: the id of the run's receipt; "" while there is none.
    """
    roles = {trial.role for trial in plan.trials}
    used = [EDITING]
    if any(trial.edit == "shift" for trial in plan.trials) or any(claim.origin == "probe" for claim in plan.claims):
        used.append(ITI)
    used.append(TRUTHFUL)
    used += {"ipo": [IPO], "dpo": [DPO]}.get(str(plan.config["objective"]), [])
    if "random" in roles:
        used += [RANK, EXACT]
    title = f"Localization audit of {visible(plan.model.name, 80)} on {visible(plan.dataset.name, 80)}"
    note = visible(f"receipt {receipt}" if receipt else f"plan {plan.sha256}")
    key = re.sub("[^A-Za-z0-9]", "", receipt or plan.sha256[:12])  # no comma, no brace ends a key in a hostile receipt
    run = Work(f"locus-{key}", ("locus",), title, "", visible(f"locus {version}", 80), kind="misc", note=note)
    return [*used, run]


def bibtex(cited: list[Work]) -> str:
    """As BibTeX; journals and archive ids both go into the field `journal` or `howpublished`."""
    parts = []
    for work in cited:
        place = "journal" if work.kind == "article" else "howpublished"
        values = {"author": " and ".join(work.authors), "title": work.title, "year": work.year, place: work.where}
        values |= {"doi": work.doi, "note": work.note}
        rows = ",\n".join(f"  {name} = {{{tex(value)}}}" for name, value in values.items() if value)
        parts.append(f"@{work.kind}{{{work.key},\n{rows}\n}}")
    return "\n\n".join(parts) + "\n"


def ris(cited: list[Work]) -> str:
    """As RIS."""
    parts = []
    for work in cited:
        rows = [("TY", "JOUR" if work.kind == "article" else "DATA"), *(("AU", author) for author in work.authors)]
        rows += [("TI", work.title), ("PY", work.year), ("JO", work.where), ("DO", work.doi), ("N1", work.note)]
        parts.append("\n".join(f"{tag}  - {value}" for tag, value in rows if value) + "\nER  - ")
    return "\n".join(parts) + "\n"


def endnote(cited: list[Work]) -> str:
    """As EndNote's tagged import format."""
    parts = []
    for work in cited:
        rows = [("%0", "Journal Article" if work.kind == "article" else "Dataset"), *(("%A", author) for author in work.authors)]
        rows += [("%T", work.title), ("%D", work.year), ("%J", work.where), ("%R", work.doi), ("%Z", work.note)]
        parts.append("\n".join(f"{tag} {value}" for tag, value in rows if value))
    return "\n\n".join(parts) + "\n"


def forms(cited: list[Work]) -> dict[str, str]:
    """Every form by its file ending."""
    return {"bib": bibtex(cited), "ris": ris(cited), "enw": endnote(cited)}


def cff(cited: list[Work], version: str) -> str:
    """The run as a CITATION.cff, with the methods as its references; every text is quoted as JSON, which is YAML too.

    Args:
        cited: as `works` gives them, the run last.
        version: of locus.

    Source: Citation File Format 1.2.0, https://github.com/citation-file-format/citation-file-format.
    """
    *methods, run = cited
    lines = [
        "cff-version: 1.2.0",
        f"message: {json.dumps('Please cite this audit and the methods that it used.')}",
    ]
    lines += [
        "type: dataset",
        f"title: {json.dumps(run.title)}",
        'authors:\n  - name: "locus"',
        f"version: {json.dumps(version)}",
    ]
    lines += [f"abstract: {json.dumps(run.note)}"] if run.note else []
    lines += ["references:"]
    for work in methods:
        people = [name.partition(", ") for name in work.authors]
        names = [{"family-names": family, **({"given-names": given} if given else {})} for family, _, given in people]
        entry: dict[str, Any] = {
            "type": "article" if work.kind == "article" else "generic",
            "title": work.title,
            "authors": names,
        }
        entry |= {"year": int(work.year)} if work.year.isdigit() else {}
        entry |= {"journal": work.where} if work.where else {}
        entry |= {"doi": work.doi} if work.doi else {}
        lines.append(f"  - {json.dumps(entry, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def write(run: Path, to: Path) -> list[str]:
    """Write how to cite a finished run and its methods, in every form.

    Returns:
        Names of the files written.

    Raises:
        UserError: if the run has no verdict yet, or the folder to write to is not empty.
    """
    plan, receipt, version = reading.read_plan(run), sealed_in(run), verdict_of(run).versions["locus"]
    cited = works(plan, version, receipt.id if receipt else "")
    files = {f"cite.{ending}": text for ending, text in forms(cited).items()} | {"CITATION.cff": cff(cited, visible(version, 80))}
    outputs.empty_folder(to)
    for name, text in files.items():
        atomic.replace(to / name, text)
    return list(files)
