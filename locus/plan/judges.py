"""What is wrong with a choice of judge: it cannot be had, it says nothing of the metric, or it does not fit the behaviour.

A behaviour declares of what a judge can give probabilities, and a judge of what it gives them. None is known by name here.
"""

from locus.behaviours.items import Dataset
from locus.errors import UserError
from locus.metrics.base import deciding, metric, shipped
from locus.plan.config import AuditConfig


def problems(config: AuditConfig) -> list[UserError]:
    """A judge that can be had, where one is asked for; and one asked for where the metric needs it."""
    if config.judge != "none":
        from locus.judges.api import Endpoint
        from locus.judges.kind import check_judge

        try:
            check_judge(config.judge, Endpoint(config.judge_url, config.judge_cap, config.judge_prices))
            errors = _unjudged(config)
        except UserError as error:
            errors = [error]
        if config.judge.startswith("api:") and any(config.judge_prices) and config.judge_cap is None:
            errors.append(UserError("a spending cap for a judge that has its price", "none", "Give --set judge_cap=AMOUNT."))
        return errors
    others = [one.name for one in shipped() if one.decides and not one.needs_judge]
    return [
        UserError(
            f"a judge, for the metric {one.name}",
            "judge none",
            f"Use --set judge=auto, or a metric of multiple choice: {', '.join(others[:-1])} or {others[-1]}.",
        )
        for one in map(metric, dict.fromkeys((config.metric, *config.metrics)))
        if one.needs_judge
    ]


def _unjudged(config: AuditConfig) -> list[UserError]:
    """A main metric of speech of which the judge gives no probability."""
    from locus.judges.kind import parse_judge

    main, notions = metric(config.metric), parse_judge(config.judge)[0].notions
    if not main.needs_judge or main.judged_by(notions):
        return []
    remedy = f"Use --metric {deciding(notions).name}, or another judge."
    return [UserError(f"a judge of {' and '.join(main.notions)}, for the metric {main.name}", f"judge {config.judge}", remedy)]


def unfit(dataset: Dataset, config: AuditConfig) -> list[UserError]:
    """A judge that fits the behaviour: it gives probabilities of what the behaviour declares, and of nothing else."""
    if config.judge == "none":
        return []
    from locus.judges.kind import parse_judge

    unfit = [one for one in parse_judge(config.judge)[0].notions if one not in dataset.notions]
    if not unfit:
        return []
    named = f"the judge that it names: --set judge={dataset.judge}" if dataset.judge else "a judge of sides, such as reference"
    return [
        UserError(
            f"a judge of what the behaviour {dataset.name} is about: {' and '.join(dataset.notions)}",
            f"judge {config.judge}, of {' and '.join(unfit)}",
            f"Use {named}.",
        )
    ]
