"""Everything that can be known to be wrong before any weight is loaded, reported together.

What needs neither torch nor a model comes first and is said within a second; nothing here imports them at the top.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus import claims, registry, units
from locus.behaviours.items import Dataset, Item
from locus.boundary import outputs
from locus.boundary.notices import notice
from locus.errors import PreconditionsError, UserError, raise_all
from locus.models import devices, own_code
from locus.models.locate import DEVICE, at_hand, fetched, locate
from locus.plan import controls, judges, population, questions, reading
from locus.plan.config import RENAMED, SINCE_FIRST, AuditConfig
from locus.records.place import STRETCH
from locus.sites.space import SiteSpace

if TYPE_CHECKING:
    from locus.plan.opened import Opened

FOREIGN = 0.05  # share of unknown tokens from which on it is said
TRIALS = 1_000_000  # beyond it a plan does not fit in memory


def check(config: AuditConfig, out: Path, opened: "Opened | None" = None) -> Dataset:
    """Check configuration, data, claims, model path, judge and run folder.

    Returns:
        The dataset.

    Raises:
        UserError: naming everything that is wrong at once; what takes long to look at only where nothing else is wrong.
    """
    early(config, out, opened)
    if opened is not None and opened.model is not None:
        layout = opened.model.layout
        wrong = _fits(config, lambda kind: SiteSpace.of(kind, layout), opened)
    else:
        wrong = _model(config)
    raise_all(_edits(config, opened) + judges.problems(config) + wrong)
    dataset = questions.audited(config, opened)
    raise_all(judges.unfit(dataset, config))
    others = questions.others(config, opened)
    questions.distinct(dataset, others)
    questions.marked([dataset, *others], population.kind_asked(config, opened.claims if opened is not None else {}))
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


def early(config: AuditConfig, out: Path | None = None, opened: "Opened | None" = None, fitted: bool = True) -> None:
    """Check what needs neither torch, nor a model, nor the network.

    Args:
        config: what is asked for.
        out: the run folder, if there is to be one.
        opened: what is open already, and need not be looked for.
        fitted: whether claims are held against the sizes that a model's files speak of.

    Raises:
        UserError: naming everything that is wrong at once.
    """
    errors = _claims(config, opened) + _sizes(config) + _search(config)
    errors += controls.problems(config, opened.model if opened is not None else None)
    model = opened.model if opened is not None else None
    if fitted and model is None and not registry.known("models", config.model):
        errors += _here(config)
    for look in questions.at_once(config, opened):
        errors += _caught(look)
    if out is not None:
        errors += population.levels(config) + _folder(config, out)
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
        if config.ranks:
            received = f"ranks = {list(config.ranks)} with search = {config.search}"
            errors.append(
                UserError("edits of rank 1 alone where they are trained by epochs", received, "Give --set search=newton.")
            )
        if config.further:
            received = f"further = {config.further} with search = {config.search}"
            errors.append(UserError("further = 0 where edits are trained by epochs", received, "Give --set search=newton."))
        return errors
    errors = []
    if len(set(config.lengths)) < len(config.lengths) or any(rounds >= config.rounds for rounds in config.lengths):
        wanted = f"different lengths, each under the {config.rounds} rounds of the whole search"
        errors.append(UserError(wanted, f"lengths = {list(config.lengths)}", "Leave these lengths out, or raise rounds."))
    if list(config.ranks) != sorted(set(config.ranks)):
        received = f"ranks = {list(config.ranks)}"
        errors.append(UserError("ranks in ascending order, each once", received, "Each is searched for from the one before."))
    if config.ranks and "constant" in config.reads:
        received = f"ranks = {list(config.ranks)} with reads = {list(config.reads)}"
        errors.append(UserError("edits that read, for ranks above 1: constants add up to one", received, "Leave out constant."))
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


def _caught(function: Any, *args: Any) -> list[UserError]:
    try:
        function(*args)
    except PreconditionsError as error:
        return list(error.errors)
    except UserError as error:
        return [error]
    return []


def _claims(config: AuditConfig, opened: "Opened | None") -> list[UserError]:
    """Claims that can be read, of one kind of site, each named once."""
    known = opened.claims if opened is not None else {}
    sources = [source for source in config.claims if source not in known and not claims.is_heuristic(source)]
    errors = [error for source in sources for error in _caught(claims.given, source)]
    errors += [] if errors else _caught(population.kind_asked, config, known)
    names = list(config.claims)
    if len(set(names)) < len(names) or not names:
        errors.append(UserError("one or more different claims", ", ".join(names) or "none", "Name each claim once."))
    return errors


def _fits(config: AuditConfig, places: population.Places, opened: "Opened | None" = None) -> list[UserError]:
    """Claims of sites that a model has, with as many places besides as a rank test needs."""
    known = opened.claims if opened is not None else {}
    try:
        space = places(population.kind_asked(config, known))
    except UserError as error:
        return [error] if opened is not None else []  # of claims it is said already
    if space is None:
        return []
    errors, total = [], sum(space.counts)
    for source in config.claims:
        if source not in known and claims.is_heuristic(source):
            if config.claim_size >= total:
                wanted = f"a claim of fewer than all {space.kind.counted(total)}"
                errors.append(UserError(wanted, str(config.claim_size), "Use --claim-size."))
            continue
        claim = known.get(source) or claims.given(source)
        errors += _caught(claim.fits, space) or _caught(population.check, config, space, [claim.location])
    return errors


def _here(config: AuditConfig) -> list[UserError]:
    """What is wrong with a model that can be looked at at once, or with the claims about it."""
    return _caught(
        lambda: raise_all(
            _fits(config, population.foreseen_in(folder)) if (folder := at_hand(config.model, config.adapter)) else []
        )
    )


def _model(config: AuditConfig) -> list[UserError]:
    """A model that is where it is said to be, with the sites that are claimed."""
    if registry.known("models", config.model) and not config.model.startswith("planted:"):
        return []  # whoever brings the model says what is wrong with its name, and its sites are counted where it is loaded
    if config.model.startswith("planted:"):
        from locus.models.planted.named import fields_of  # the planted models come later in the flow
        from locus.models.planted.sited import sizes_of

        if wrong := _caught(fields_of, config.model):
            return wrong
        return _fits(config, population.foreseen(sizes_of(config.model)))

    def claimed() -> None:
        place = locate(config.model, config.adapter)[0]
        if not Path(place).is_dir():  # on a hub, which has all but the weights to look at
            place = fetched(place, config.revision, config.trust_remote_code, config.adapter, weights=False)
        own_code.check_own_code(config.model, place, config.trust_remote_code)
        raise_all(_fits(config, population.foreseen_in(place)))

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
    if (count := grid * len(config.claims) * _places(config)) > TRIALS:
        errors.append(
            UserError(f"a plan of at most {TRIALS:,} trials", f"{count:,}", "Ask for fewer places, settings or training seeds.")
        )
    errors += _spread(config)
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


def _spread(config: AuditConfig) -> list[UserError]:
    """A model that is spread over devices by one process, which holds it alone; or cut into slices, one for each of several."""
    errors = [wrong] if (wrong := devices.several_processes(config.tp_plan)) else []
    if config.device_map is not None and config.tp_plan is not None:
        errors.append(devices.both())
    allowed = {"device_map": ("auto", "serial", "fork"), "tp_plan": ("auto", "serial")}
    for beside in [name for name in allowed if getattr(config, name) is not None]:
        errors += _caught(devices.check_alone, config.model, config.device, config.adapter, config.twin, beside)
        executor = config.executor.partition(":")[0]
        if executor == "ray" or (beside == "tp_plan" and executor not in allowed[beside]):
            *most, last = allowed[beside]
            why = "ray, whose workers have a GPU each," if executor == "ray" else executor
            remedy = "Leave out executor, or use --part K/N for several machines."
            received = f"executor = {why} beside a {beside}"
            errors.append(UserError(f"executor {', '.join(most)} or {last} with a {beside}", received, remedy))
    return errors


def _places(config: AuditConfig) -> int:
    """Places of a claim at which edits are trained, each rank's by itself."""
    return config.random * (len(config.nulls) + len(config.ranks)) + config.singles


def _edits(config: AuditConfig, opened: "Opened | None") -> list[UserError]:
    """An edit that is trained where one is to be trained, and fixed ones beside it."""
    from locus.edits.kind import kind  # imports torch
    from locus.models.points import POINTS

    errors = []
    own = population.kind_asked(config, opened.claims if opened is not None else {})
    if "free" in config.full_forms and not POINTS[own.point].has_map:
        received = f"full_forms = {list(config.full_forms)} for {own.nouns}, where every edit is free"
        errors.append(UserError("a form of full alignment that these sites have: heads", received, "Leave out free."))
    if config.search == "newton" and not kind(config.edit).searched:
        errors.append(UserError("an edit of rank 1 for search = newton", f"edit = {config.edit!r}", "Use search = adamw."))
    if config.ranks and own.written != "slices":
        received = f"ranks = {list(config.ranks)} for {own.nouns}, of which an edit writes one"
        errors.append(UserError("edits of rank 1 alone where one vector is written", received, "Leave ranks out."))
    for setting, names, trained in (("edit", (config.edit,), True), ("steering", config.steering, False)):
        wrong = [name for name in names if kind(name).trained is not trained or not kind(name).anywhere]
        if wrong:
            wanted = "an edit that is trained at any place" if trained else "edits that are not trained"
            errors.append(UserError(f"{wanted}, as {setting}", ", ".join(wrong), "`locus list edits` shows what each is."))
    return errors


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
