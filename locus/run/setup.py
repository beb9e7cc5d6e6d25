"""Open the judge, load the model, hold every shortcut against the slow path, and read all questions once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from locus import behaviours as datasets
from locus import claims
from locus.behaviours import answers
from locus.behaviours.prompts import FormatName, PromptFormat, prompt_format
from locus.claims import direction
from locus.claims.heuristic import Evidence, find
from locus.engine import checks
from locus.engine.cache import NONE, Cache
from locus.errors import UserError, raise_all
from locus.judges.api import Endpoint
from locus.judges.kind import asker_of, open_judge
from locus.machine.threads import Arithmetic
from locus.metrics.drift import load_text
from locus.models.configured import as_asked, load_configured
from locus.models.model import Model
from locus.plan import controls, population, preconditions, questions, readable
from locus.plan.config import AuditConfig
from locus.plan.context import AuditContext, Elsewhere, choose, read_questions
from locus.plan.opened import NOTHING, Opened
from locus.records.plan import asked_of, put_as
from locus.sites.kind import SiteKind
from locus.sites.space import SiteSpace

Progress = Callable[[str, float], None]


def set_up(
    config: AuditConfig,
    dataset: datasets.Dataset,
    progress: Progress,
    arithmetic: Arithmetic | None = None,
    hold: Callable[[str], None] | None = None,
    opened: Opened = NOTHING,
    kind: SiteKind | None = None,
) -> AuditContext:
    """Open the judge, load the model, hold every shortcut against the slow path on it, and read all questions once.

    Args:
        config: what is audited and how.
        dataset: the questions.
        progress: told what is being done and the share of it.
        arithmetic: the run's, kept to by who calls this; by default what this process would choose.
        hold: given the model's fingerprint before anything is done with it, to raise if it is another model than expected.
        opened: what is open already: of it, a model is not loaded.
        kind: of the sites that are audited; that of the settings' claims by default.

    Raises:
        UserError: if judge or model cannot be had, the model cannot read what it would be given or tell two answers apart, or a
            shortcut does not agree.
    """
    split, kind = datasets.split(dataset.items, config.seed), kind or population.kind_asked(config, opened.claims)
    items = choose(dataset, split, config)
    preconditions.warn_of_few(items, config)
    sample = load_text(config.text, config.text_passages, config.seed) if config.text_passages else None
    others = questions.others(config, opened)
    questions.distinct(dataset, others)
    questions.marked([dataset, *others], kind)
    asked = partial(prompt_format, name=config.prompt, day=config.template_date, variables=config.template_variables)

    def readable_by(tokenizer: Any, context: int) -> None:
        own = asked(tokenizer)
        wrong = readable.problems(tokenizer, context, own, items, sample, config)
        if own.name in config.transfer:
            wrong.append(controls.not_other(own.name, config.transfer))
        for one in elsewhere(config, tokenizer, own, items["test"], others):
            scored, only = {"test": one.items}, config.model_copy(update={"judge": "none"})
            wrong += readable.problems(tokenizer, context, one.prompt, scored, None, only)
        raise_all(wrong)

    judge = None
    if config.judge != "none":
        judge = open_judge(config.judge, Endpoint(config.judge_url, config.judge_cap, config.judge_prices))
        if config.tp_plan is not None and asker_of(judge) is not None:
            received = f"{config.judge!r}, which every process would ask and pay"
            raise UserError("a judge that needs no endpoint, with a tp_plan", received, "Use another judge, or device_map.")
    progress("loading the model", 0.0)
    model = _model(config, opened.model, readable_by)
    if hold is not None:
        hold(model.fingerprint)
    text = asked(model.tokenizer)
    preconditions.warn_of_template(text.notices)
    preconditions.warn_of_foreign(model.name, model.tokenizer, items["test"])
    answers.check_answers(model.tokenizer, text, [item for part in items.values() for item in part], dataset.as_published)
    # What one of several processes found in a cache, and another did not, would put them out of step.
    cache = Cache.standard() if config.tp_plan is None else NONE
    space = SiteSpace.of(kind, model.layout)
    checked = checks.checked(model, text, cache, space.kind.plain)
    if failed := [str(one) for one in checked if not one.passed]:
        raise UserError(
            "a model on which every shortcut equals the plain path",
            "; ".join(failed),
            "Run it in float32; if that does not help, this architecture is not supported.",
        )
    held_to = arithmetic or Arithmetic.here()
    context = AuditContext(model, config, split, items, text, sample, tuple(map(str, checked)), space, cache, judge, held_to)
    context.elsewhere = elsewhere(config, model.tokenizer, text, items["test"], others)
    for one in context.elsewhere:
        published = (one.dataset or dataset).as_published
        preconditions.warn_of_foreign(model.name, model.tokenizer, one.items)
        answers.check_answers(model.tokenizer, one.prompt, one.items, published)
    return read_questions(context, progress)


def elsewhere(
    config: AuditConfig, tokenizer: Any, own: PromptFormat, tested: tuple[datasets.Item, ...], others: Sequence[datasets.Dataset]
) -> tuple[Elsewhere, ...]:
    """Where edits are scored besides: the test questions in other prompt formats, and other behaviours in the audit's own.

    Of another behaviour it is the test part of a split by the audit's seed, as large as the audit's: what the two have in
    common was not trained on. Prompts of a task, which are whole, are put bare.

    Args:
        config: what is audited and how.
        tokenizer: the model's.
        own: the audit's prompt format.
        tested: its test questions.
        others: the other behaviours.

    Raises:
        UserError: if the model has no such format.
    """

    def formatted(name: FormatName) -> PromptFormat:
        told = config.template_variables if name == "chat" else None
        return prompt_format(tokenizer, name=name, day=config.template_date, variables=told)

    found = [Elsewhere(put_as(name), tested, formatted(name)) for name in config.transfer]
    for source, dataset in zip(config.also, others, strict=True):
        chosen = choose(dataset, datasets.split(dataset.items, config.seed), config)["test"]
        prompt = formatted("bare") if questions.whole_prompts(source) else own
        found.append(Elsewhere(asked_of(dataset.name), chosen, prompt, dataset))
    return tuple(found)


def _model(config: AuditConfig, opened: Model | None, readable_by: Callable[[Any, int], None]) -> Model:
    """The model that is open, or else the one that the settings name; it can read what it will be given."""
    if opened is not None:
        readable_by(opened.tokenizer, opened.context)
        opened.changed()
        return as_asked(opened, config.twin)
    return load_configured(config, first=readable_by)


def find_claim(config: AuditConfig, progress: Progress, opened: Opened = NOTHING, kind: SiteKind | None = None) -> claims.Claim:
    """Only the probe claim of a configuration, for a look at the ranked sites."""
    dataset = opened.dataset or datasets.load(config.data)
    # Nobody speaks or edits here, so nobody need be asked whether he would judge, and nothing is read elsewhere.
    alone = config.model_copy(update={"judge": "none", "transfer": (), "also": ()})
    return make_claim("probe", config, set_up(alone, dataset, progress, opened=opened, kind=kind))


def held(claim: claims.Claim, context: AuditContext) -> claims.Claim:
    """A claim of which the context holds the vectors, if it is of directions; of all layers, if it was meant so.

    Raises:
        UserError: if a vector is of another width than the model's stream, or not what it is known by.
    """
    vectors = direction.vectors_of([claim], context.model.layout.d_model)
    if context.book is not None:
        context.book.claimed |= vectors
    return direction.over(claim, context.space.layers)


def make_claim(source: str, config: AuditConfig, context: AuditContext) -> claims.Claim:
    """A claim by its source: found here by a heuristic, or made elsewhere."""
    if not claims.is_heuristic(source):
        return claims.given(source)
    train, validation = context.parts["train"], context.parts["validation"]
    features, held_out = context.features.first(len(train.items)), context.features.rest(len(train.items))
    evidence = Evidence(
        *(context.model, context.prompt, train, validation, features, held_out, context.steer, context.space),
        size=config.claim_size,
        seed=config.seed,
    )
    return find(source, evidence)
