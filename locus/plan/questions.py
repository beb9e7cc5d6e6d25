"""The questions of an audit: those that edits are trained on and tested by, and other behaviours on which they are only scored.

Nothing here needs a model, so that what is wrong with a file is said before weights load. A behaviour that a reader opens cannot
know whether its wanted side is a form; who knows it says so with the setting `form`, or in the TOML that maps the file.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from locus import behaviours, registry
from locus.behaviours.exchange import PREFIX
from locus.behaviours.items import SPLITS, Dataset, problems, repeats
from locus.errors import UserError, raise_all
from locus.plan.config import AuditConfig
from locus.sites.kind import SiteKind
from locus.sites.positions import is_span

if TYPE_CHECKING:
    from locus.plan.opened import Opened

REMOTE = ("truthfulqa",)  # data that a hub has to be asked for


def audited(config: AuditConfig, opened: "Opened | None" = None) -> Dataset:
    """The behaviour that is audited, as it is open already or by its name.

    Raises:
        UserError: if there is none of the name, or its questions cannot be used or are too few to be split.
    """
    dataset = (opened.dataset if opened is not None else None) or behaviours.load(config.data)
    check(dataset, config)
    return replace(dataset, form=True) if config.form else dataset


def others(config: AuditConfig, opened: "Opened | None" = None) -> tuple[Dataset, ...]:
    """The other behaviours on which edits are scored, each as it is open already or by its name.

    Raises:
        UserError: as `audited`.
    """
    known = opened.also if opened is not None else {}
    found = tuple(known.get(source) or behaviours.load(source) for source in config.also)
    for dataset in found:
        check(dataset, config)
    return found


def distinct(dataset: Dataset, several: Sequence[Dataset]) -> None:
    """See that no behaviour is asked about twice.

    Raises:
        UserError: if one of them is the audited one, or two have one name.
    """
    names = Counter(one.name for one in several)
    twice = [name for name, count in names.items() if count > 1]
    twice += [one.name for one in several if one.sha256 == dataset.sha256]
    if twice:
        wanted = "other behaviours to score edits on (also), each once, and none that is audited"
        raise UserError(wanted, ", ".join(map(repr, twice))[:200], "Leave it out, or name its file otherwise.")


def marked(several: Sequence[Dataset], kind: SiteKind) -> None:
    """See that questions mark the span at whose last token edits are to act, if they are to act at one.

    Raises:
        UserError: naming a behaviour that does not.
    """
    for dataset in several if is_span(kind.at) else ():
        bare = [item for item in dataset.items if kind.at not in item.spans]
        if bare:
            named = f"{dataset.name!r}, in which {len(bare)} of {len(dataset.items)} do not, such as {bare[0].question[:60]!r}"
            remedy = f"Mark it in each line, as in docs/data.md, or claim {kind.plain.nouns} at all tokens."
            raise UserError(f"questions that mark their {kind.at}, at whose last token edits are to act", named, remedy)


def at_once(config: AuditConfig, opened: "Opened | None" = None) -> list[Callable[[], object]]:
    """What can be looked at without a model and without a hub, each as a call that raises UserError for what is wrong with it."""
    there = opened is not None and opened.dataset is not None
    first: list[Callable[[], object]] = [lambda: audited(config, opened)] if there or readable(config.data) else []
    held = {} if opened is None else opened.also
    rest = tuple(source for source in config.also if source in held or readable(source))
    few = config.model_copy(update={"also": rest})
    if first and rest:
        return [lambda: distinct(audited(config, opened), others(few, opened))]
    return [*first, *([lambda: others(few, opened)] if rest else [])]


def readable(data: str) -> bool:
    """Whether questions can be read without a model and without a hub; of another package's that is not known."""
    data = data.removeprefix(PREFIX)
    foreign = registry.known("behaviours", data) and not registry.shipped("behaviours", data.partition(":")[0])
    return not foreign and not data.startswith("planted:") and data not in REMOTE


def whole_prompts(source: str) -> bool:
    """Whether a behaviour's questions are texts that go on with their answers, and are never put in another format."""
    return source.removeprefix(PREFIX).startswith("task:")


def check(dataset: Dataset, config: AuditConfig) -> None:
    """See that questions can be used, and that they are enough to be split.

    Raises:
        UserError: naming everything that is wrong at once.
    """
    raise_all(_items(dataset) + _few(dataset, config))


def _items(dataset: Dataset) -> list[UserError]:
    """Items without an answer to compare, with a best answer that is none of them, or with an answer twice."""
    wrong = [
        f"{item.id} ({item.question[:50]!r}): {problem}"
        for item in dataset.items
        for problem in problems(item) + ([] if dataset.as_published else repeats(item))
    ]
    if not wrong:
        return []
    shown = "; ".join(wrong[:10]) + (f"; and {len(wrong) - 10} more" if len(wrong) > 10 else "")
    return [
        UserError("questions with true answers, false answers and a best one among the true, each once", shown, "Mend the data.")
    ]


def _few(dataset: Dataset, config: AuditConfig) -> list[UserError]:
    """Data of which a part would have fewer questions than may be asked for by the setting of its name."""
    least = {name: next(rule.ge for rule in AuditConfig.model_fields[name].metadata) for name in SPLITS}
    try:
        split = behaviours.split(dataset.items, config.seed)
    except UserError as error:
        return [error]
    held = {name: len(split.part(name)) for name in SPLITS}
    if all(held[name] >= least[name] for name in SPLITS):
        return []
    need, leaves = (", ".join(f"{count} for {name}" for name, count in counts.items()) for counts in (least, held))
    groups = len({item.group for item in dataset.items})
    return [
        UserError(
            f"questions of which a split of 60/20/20 % leaves at least {need}",
            f"{len(dataset.items)} questions in {groups} groups, which leave {leaves}",
            "Give 20 or more (50 test questions need 250), each in a group of its own where they differ.",
        )
    ]
