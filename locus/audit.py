"""The verb: audit a claim that a behaviour is localized. Read this file and you know the whole flow."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from locus import answers, atomic, checks, claims, conclude, datasets, plan_file, preconditions, readable, run, trials
from locus.cache import Cache
from locus.claims import probe
from locus.config import AuditConfig
from locus.datasets.blind import logistic_baseline, negation_then_length
from locus.errors import UserError, raise_all
from locus.evaluate.drift import load_text
from locus.judges.api import Endpoint
from locus.judges.named import open_judge
from locus.model import load
from locus.prompts import prompt_format
from locus.report import page, receipt
from locus.store import Store
from locus.threads import Arithmetic

Told = Callable[[str, float], None]


def audit(config: AuditConfig, out: Path, told: Told = lambda what, share: None, sign: bool = True) -> dict[str, Any]:
    """Audit the claims of a configuration and write a run folder; run again, it goes on where it stopped.

    Args:
        config: what is audited and how.
        out: the run folder.
        told: told what is being done and the share of the whole audit that is done.
        sign: whether the user's key signs the receipt.

    Returns:
        The verdict, as written to `verdict.json`.

    Raises:
        UserError: for everything the user can fix; all preconditions are checked together, before weights load.
    """
    started = time.monotonic()
    # Material: the questions, split by group; nothing is loaded before all preconditions hold.
    dataset = preconditions.check(config, out)
    # With the threads that the run was begun with, where it goes on.
    arithmetic = plan_file.arithmetic(out)
    with arithmetic.whole(), atomic.room():
        # The model, checked against the slow path, and what it says unedited.
        bench = set_up(config, dataset, lambda what, share: told(what, 0.1 * share), arithmetic)
        # The claims, the plan with its rule, and the trials the store still lacks.
        anatomy = bench.model.anatomy
        made = [_claim(source, config, bench) for source in config.claims]
        for claim in made:
            claim.check(bench.model.fingerprint, anatomy.n_layers, anatomy.n_heads)
        baselines = [negation_then_length(dataset.items), logistic_baseline(dataset.items, seed=config.seed)]
        document = plan_file.document(bench, dataset, baselines, plan_file.schema_of(out))
        plan = plan_file.deal(trials.make(config, anatomy, made, document, run.room(bench)), bench)
        plan_file.fix(plan, out)
        run.afford(plan, bench)
        store = Store(out / "trials.sqlite")
        try:
            plan_file.note_time(plan, store)
            enough = partial(conclude.enough, out, store)
            run.run(plan, store, bench, out / "edits", lambda what, share: told(what, 0.1 + 0.9 * share), enough)
            found = conclude.write(out, store, time.monotonic() - started)
            receipt.write(out, store, str(bench.model.device), sign)
            page.write(out, figures=False, sign=sign)
            return found
        finally:
            store.close()


def set_up(
    config: AuditConfig,
    dataset: datasets.Dataset,
    told: Told,
    arithmetic: Arithmetic | None = None,
    hold: Callable[[str], None] | None = None,
) -> run.Bench:
    """Open the judge, load the model, hold every shortcut against the slow path on it, and read all questions once.

    Args:
        config: what is audited and how.
        dataset: the questions.
        told: told what is being done and the share of it.
        arithmetic: the run's, kept to by who calls this; by default what this process would choose.
        hold: given the model's fingerprint before anything is done with it, to raise if it is another model than expected.

    Raises:
        UserError: if judge or model cannot be had, the model cannot read what it would be given or tell two answers apart, or a
            shortcut does not agree.
    """
    split = datasets.split(dataset.items, config.seed)
    items = run.choose(dataset, split, config)
    preconditions.warn_of_few(items, config)
    sample = load_text(config.text, config.text_passages, config.seed) if config.text_passages else None
    asked = partial(prompt_format, name=config.prompt, day=config.template_date, variables=config.template_variables)

    def readable_by(tokenizer: Any, context: int) -> None:
        raise_all(readable.problems(tokenizer, context, asked(tokenizer), items, sample, config))

    judge = None
    if config.judge != "none":
        judge = open_judge(config.judge, Endpoint(config.judge_url, config.judge_cap, config.judge_prices))
    told("loading the model", 0.0)
    model = load(
        config.model,
        device=config.device,
        dtype=config.dtype,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        adapter=config.adapter,
        first=readable_by,
    )
    if hold is not None:
        hold(model.fingerprint)
    text = asked(model.tokenizer)
    preconditions.warn_of_template(text.notices)
    preconditions.warn_of_foreign(model.name, model.tokenizer, items["test"])
    answers.check(model.tokenizer, text, [item for part in items.values() for item in part], dataset.as_published)
    cache = Cache.standard()
    checked = checks.checked(model, text, cache)
    if failed := [str(one) for one in checked if not one.passed]:
        raise UserError(
            "a model on which every shortcut equals the plain path",
            "; ".join(failed),
            "Run it in float32; if that does not help, this architecture is not supported.",
        )
    held_to = arithmetic or Arithmetic.here()
    stage = run.Stage(model, config, split, items, text, sample, tuple(map(str, checked)), cache, judge, held_to)
    return run.survey_all(stage, told)


def find_claim(config: AuditConfig, told: Told) -> claims.Claim:
    """Only the probe claim of a configuration, for a look at the ranked heads."""
    dataset = datasets.load(config.data)
    # Nobody speaks here, so nobody need be asked whether he would judge.
    return _claim("probe", config, set_up(config.model_copy(update={"judge": "none"}), dataset, told))


def _claim(source: str, config: AuditConfig, bench: run.Bench) -> claims.Claim:
    """A claim by its source: found by probing here, or made elsewhere."""
    if source != "probe":
        return claims.given(source)
    size = len(bench.parts["train"].items)
    return probe.claim(bench.features.first(size), bench.features.rest(size), config.claim_size)
