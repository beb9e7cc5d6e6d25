"""Everything that can be known to be wrong before any weight is loaded, reported together.

What needs neither torch nor a model comes first and is said within a second; nothing here imports them at the top.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus import behaviours as datasets
from locus import claims, registry, units
from locus.behaviours.exchange import PREFIX
from locus.behaviours.items import SPLITS, Dataset, Item, problems, repeats
from locus.boundary import outputs
from locus.boundary.notices import notice
from locus.claims import null
from locus.errors import PreconditionsError, UserError, raise_all
from locus.metrics.base import metric, shipped
from locus.models import own_code
from locus.models.checkpoint import read_config, size
from locus.models.locate import DEVICE, at_hand, fetched, locate
from locus.plan import controls, reading
from locus.plan.config import RENAMED, SINCE_FIRST, AuditConfig
from locus.records.place import STRETCH

if TYPE_CHECKING:
    from locus.plan.opened import Opened

FOREIGN = 0.05  # share of unknown tokens from which on it is said
TRIALS = 1_000_000  # beyond it a plan does not fit in memory
REMOTE = ("truthfulqa",)  # data that a hub has to be asked for


def check(config: AuditConfig, out: Path, opened: "Opened | None" = None) -> Dataset:
    """Check configuration, data, claims, model path, judge and run folder.

    Returns:
        The dataset.

    Raises:
        UserError: naming everything that is wrong at once; what takes long to look at only where nothing else is wrong.
    """
    early(config, out, opened)
    if opened is not None and opened.model is not None:
        wrong = _fits(config, opened.model.layout.heads)
    else:
        wrong = _model(config)
    raise_all(_edits(config) + _judge(config) + wrong)
    dataset = (opened.dataset if opened is not None else None) or datasets.load(config.data)
    _questions(dataset, config)
    return dataset


class ForeignText(UserWarning):
    """A model is given text that its tokenizer does not know."""


class FewQuestions(UserWarning):
    """The data hold fewer questions than were asked for."""


def warn_of_foreign(model: str, tokenizer: Any, items: Sequence[Item]) -> None:
    """Warn where many tokens of the questions and answers are unknown: a planted model knows its own words alone."""
    if tokenizer.unk_token_id is None:
        return
    texts = [text for item in items for text in (item.question, *item.answers)]
    tokens = [token for row in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in row]
    share = sum(token == tokenizer.unk_token_id for token in tokens) / max(1, len(tokens))
    if share > FOREIGN:
        notice(
            f"{units.share(share)} of the words in these questions and answers are unknown to the tokenizer of {model}, which "
            "cannot tell them apart. A planted model brings its own questions: leave out --data.",
            ForeignText,
        )


class TemplateNotice(UserWarning):
    """A chat template does what the user may not expect of it."""


def warn_of_template(notices: Sequence[str]) -> None:
    """Warn of a chat template that writes a date, leaves a thought open, or takes no notice of its variables."""
    for text in notices:
        notice(text, TemplateNotice)


def warn_of_few(items: Mapping[str, Sequence[Item]], config: AuditConfig) -> None:
    """Warn, before anything is loaded, where the data hold fewer questions than were asked for."""
    short = [
        f"{len(part)} {name} questions, not {asked}"
        for name, part in items.items()
        if len(part) < (asked := getattr(config, name) or 0)
    ]
    if short:
        notice(
            f"{'; '.join(short)}: the data are split 60/20/20 %. What few questions cannot show stays undecided or invalid.",
            FewQuestions,
        )


def early(config: AuditConfig, out: Path | None = None, opened: "Opened | None" = None) -> None:
    """Check what needs neither torch, nor a model, nor the network.

    Args:
        config: what is asked for.
        out: the run folder, if there is to be one.
        opened: what is open already, and need not be looked for.

    Raises:
        UserError: naming everything that is wrong at once.
    """
    errors = _claims(config) + _sizes(config) + _search(config)
    errors += controls.problems(config, opened.model if opened is not None else None)
    model, dataset = (opened.model, opened.dataset) if opened is not None else (None, None)
    if model is None and not registry.known("models", config.model):
        errors += _here(config)
    if dataset is None and _at_once(config.data):
        errors += _caught(lambda: _questions(datasets.load(config.data), config))
    elif dataset is not None:
        errors += _caught(_questions, dataset, config)
    if out is not None:
        errors += _levels(config) + _folder(config, out)
    raise_all(errors)


def _search(config: AuditConfig) -> list[UserError]:
    """What a newton search can be asked for."""
    if config.taus == "auto" and config.objective != "ipo":
        received = f"taus = auto with objective = {config.objective}"
        return [UserError("taus = auto with objective = ipo, which alone has a target", received, "Give --set taus=[0.1].")]
    if config.search != "newton":
        looks = f"lengths = {list(config.lengths)} with search = {config.search}"
        wanted = "lengths of searches where edits are searched for by newton"
        errors = [UserError(wanted, looks, "Use search = newton, or leave lengths out.")] if config.lengths else []
        if config.further:
            received = f"further = {config.further} with search = {config.search}"
            errors.append(UserError("further = 0 where edits are trained by epochs", received, "Use search = newton."))
        return errors
    errors = []
    if len(set(config.lengths)) < len(config.lengths) or any(rounds >= config.rounds for rounds in config.lengths):
        wanted = f"different lengths, each under the {config.rounds} rounds of the whole search"
        errors.append(UserError(wanted, f"lengths = {list(config.lengths)}", "Leave these lengths out, or raise rounds."))
    if config.rounds + config.further < STRETCH:
        wanted = f"{STRETCH} rounds or more: no search has settled before so many steps brought nothing"
        received = f"rounds = {config.rounds}" + (f" and further = {config.further}" if config.further else "")
        errors.append(UserError(wanted, received, "Raise rounds; --budget-curve shows what shorter searches find."))
    if config.objective == "logit":
        why = "objective = logit, which has no lowest loss"
        errors.append(
            UserError("an objective that has an optimum, for search = newton", why, "Use ipo or dpo, or search = adamw.")
        )
    if config.seeds > 1:
        received = f"seeds = {config.seeds}"
        errors.append(UserError("one training seed for search = newton, which draws nothing", received, "Leave seeds at 1."))
    return errors


def _at_once(data: str) -> bool:
    """Whether questions can be read without a model and without a hub; of another package's that is not known."""
    data = data.removeprefix(PREFIX)
    foreign = registry.known("behaviours", data) and not registry.shipped("behaviours", data.partition(":")[0])
    return not foreign and not data.startswith("planted:") and data not in REMOTE


def _caught(function: Any, *args: Any) -> list[UserError]:
    try:
        function(*args)
    except PreconditionsError as error:
        return list(error.errors)
    except UserError as error:
        return [error]
    return []


def _levels(config: AuditConfig) -> list[UserError]:
    """A rank test on N random Locations cannot go below 1 / (1 + N); who asks for none asks for no test."""
    if not config.random or 1 / (1 + config.random) <= config.alpha / max(1, len(config.claims)):
        return []  # plainly enough, and no statistics need be imported to say so
    from locus import stats

    least = stats.least_random_for(config.alpha, len(config.claims))
    if config.random >= least:
        return []
    return [
        UserError(
            f"at least {least} random Locations for a rank test at alpha = {config.alpha:g} with {len(config.claims)} claim(s)",
            f"{config.random}, with which no p below {stats.smallest_p(config.random):.3f} is possible",
            f"Use --random {least}, or a larger --alpha.",
        )
    ]


def _claims(config: AuditConfig) -> list[UserError]:
    """Claims that can be read, each named once."""
    errors = [error for source in config.claims if not claims.is_heuristic(source) for error in _caught(claims.given, source)]
    names = list(config.claims)
    if len(set(names)) < len(names) or not names:
        errors.append(UserError("one or more different claims", ", ".join(names) or "none", "Name each claim once."))
    return errors


def _fits(config: AuditConfig, heads: tuple[int, ...] | None) -> list[UserError]:
    """Claims of heads that a model with so many in each layer has, with room for the random Locations."""
    if heads is None:
        return []
    errors = []
    for source in config.claims:
        if claims.is_heuristic(source):
            if config.claim_size >= sum(heads):
                wanted = f"a claim of fewer than all {sum(heads)} heads"
                errors.append(UserError(wanted, str(config.claim_size), "Use --claim-size."))
            continue
        try:
            claim = claims.given(source)
        except UserError:
            continue  # said already
        wrong = _caught(claim.fits, heads)
        for match in config.nulls if not wrong else ():
            wrong += _caught(null.draw_locations, claim.location, heads, config.random, config.seed, match)
        errors += wrong
    return errors


def _heads(folder: str) -> tuple[int, ...] | None:
    """Query heads of each layer from a folder's config.json, by any name that they go by; None if it does not say, or if layers
    may differ in them, which is seen where the model is loaded."""
    config = read_config(Path(folder) / "config.json")
    layers, heads = size(config, "layers"), size(config, "heads")
    kinds = config.get("layer_types")
    alike = not isinstance(kinds, list) or all(kind == kinds[0] for kind in kinds)
    alike = alike and "layers_block_type" not in config
    return (heads,) * layers if layers and heads and alike else None


def _here(config: AuditConfig) -> list[UserError]:
    """What is wrong with a model that can be looked at at once, or with the claims about it."""
    return _caught(lambda: raise_all(_fits(config, _heads(folder)) if (folder := at_hand(config.model, config.adapter)) else []))


def _model(config: AuditConfig) -> list[UserError]:
    """A model that is where it is said to be, with the heads that are claimed."""
    if registry.known("models", config.model) and not config.model.startswith("planted:"):
        return []  # whoever brings the model says what is wrong with its name, and its heads are counted where it is loaded
    if config.model.startswith("planted:"):
        from locus.models.planted.kinds import COMPACT  # the planted models come later in the flow

        return _fits(config, (COMPACT["heads"],) * COMPACT["layers"])

    def claimed() -> None:
        place = locate(config.model, config.adapter)[0]
        if not Path(place).is_dir():  # on a hub, which has all but the weights to look at
            place = fetched(place, config.revision, config.trust_remote_code, config.adapter, weights=False)
        own_code.check_own_code(config.model, place, config.trust_remote_code)
        raise_all(_fits(config, _heads(place)))

    return _caught(claimed)


def _sizes(config: AuditConfig) -> list[UserError]:
    errors = [
        UserError(f"one or more {name}", "none", f"Mend {name}.")
        for name in ("taus", "lr_multipliers")
        if not getattr(config, name)
    ]
    if not DEVICE.fullmatch(config.device):
        errors.append(UserError("a device: auto, cpu, cuda, or cuda:N", repr(config.device), "Use --set device=auto."))
    grid = config.grid * len(config.reads) * config.seeds
    if (count := grid * len(config.claims) * (config.random * len(config.nulls) + config.singles)) > TRIALS:
        errors.append(
            UserError(f"a plan of at most {TRIALS:,} trials", f"{count:,}", "Ask for fewer places, settings or training seeds.")
        )
    if config.shift_random > config.random:
        errors.append(
            UserError(
                f"at most {config.random} random Locations to steer",
                str(config.shift_random),
                "Lower shift_random or raise random.",
            )
        )
    if config.template_variables and config.prompt not in ("auto", "chat"):
        errors.append(
            UserError(
                "template_variables only where the model's chat template is used",
                f"the prompt format {config.prompt!r}",
                "Leave them out, or use --set prompt=chat.",
            )
        )
    if not config.reads or not config.full_forms:
        errors.append(UserError("at least one read mode and one form of full alignment", "none", "Give reads and full_forms."))
    return errors


def _edits(config: AuditConfig) -> list[UserError]:
    """An edit that is trained where one is to be trained, and fixed ones beside it."""
    from locus.edits.kind import kind  # imports torch

    errors = []
    if config.search == "newton" and not kind(config.edit).searched:
        errors.append(UserError("an edit of rank 1 for search = newton", f"edit = {config.edit!r}", "Use search = adamw."))
    for setting, names, trained in (("edit", (config.edit,), True), ("steering", config.steering, False)):
        wrong = [name for name in names if kind(name).trained is not trained or not kind(name).anywhere]
        if wrong:
            wanted = "an edit that is trained at any place" if trained else "edits that are not trained"
            errors.append(UserError(f"{wanted}, as {setting}", ", ".join(wrong), "`locus list edits` shows what each is."))
    return errors


def _judge(config: AuditConfig) -> list[UserError]:
    """A judge that can be had, where one is asked for; and one asked for where the metric needs it."""
    if config.judge != "none":
        from locus.judges.api import Endpoint
        from locus.judges.kind import check_judge

        errors = _caught(check_judge, config.judge, Endpoint(config.judge_url, config.judge_cap, config.judge_prices))
        if config.judge.startswith("api:") and any(config.judge_prices) and config.judge_cap is None:
            errors.append(UserError("a spending cap for a judge that has its price", "none", "Give --set judge_cap=AMOUNT."))
        return errors
    others = [one.name for one in shipped() if one.decides and not one.needs_judge]
    return [
        UserError(
            f"a judge, for the metric {one.name}",
            "judge none",
            f"Use --set judge=local, or a metric of multiple choice: {', '.join(others[:-1])} or {others[-1]}.",
        )
        for one in map(metric, dict.fromkeys((config.metric, *config.metrics)))
        if one.needs_judge
    ]


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


def _questions(dataset: Dataset, config: AuditConfig) -> None:
    """See that the questions can be used, and that they are enough to be split."""
    raise_all(_items(dataset) + _few(dataset, config))


def _few(dataset: Dataset, config: AuditConfig) -> list[UserError]:
    """Data of which a part would have fewer questions than may be asked for by the setting of its name."""
    least = {name: next(rule.ge for rule in AuditConfig.model_fields[name].metadata) for name in SPLITS}
    try:
        split = datasets.split(dataset.items, config.seed)
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


def _folder(config: AuditConfig, out: Path) -> list[UserError]:
    """The run folder is empty, or holds this very audit."""
    if (wrong := _caught(outputs.check_folder, out)) or not out.exists():
        return wrong
    present = {child.name for child in out.iterdir() if not child.name.startswith(".")}
    if not present:
        return []
    if "plan.json" not in present:
        return [UserError("an empty folder or one of this audit", f"{str(out)!r} with other files", "Give another --out.")]

    try:
        written = reading.read_plan(out).config
    except UserError as error:
        return [error]
    new = config.model_dump(mode="json")
    old = {**SINCE_FIRST, **{RENAMED.get(name, name): value for name, value in written.items()}}
    differ = [
        f"{name[:80]}: {old.get(name)!r:.120} there, {new.get(name)!r:.120} now"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if not differ:
        return []
    return [
        UserError(
            "the configuration that this run folder was begun with",
            f"another one ({'; '.join(differ)})",
            "Give another --out, or the same settings to go on with this run.",
        )
    ]
