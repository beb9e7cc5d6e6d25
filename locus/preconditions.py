"""Everything that can be known to be wrong before any weight is loaded, reported together."""

import json
from pathlib import Path
from typing import Any

from locus import claims, stats
from locus.claims import null
from locus.config import JUDGED, AuditConfig
from locus.datasets.items import Dataset, problems
from locus.errors import UserError, raise_all
from locus.judges import named
from locus.model import locate

RUN_FILES = {
    "plan.json",
    "trials.sqlite",
    "trials.sqlite-wal",
    "trials.sqlite-shm",
    "verdict.json",
    "edits",
    "figures",
    "report.html",
}


def check(config: AuditConfig, dataset: Dataset, out: Path) -> None:
    """Check configuration, data, claims, model path and run folder.

    Raises:
        UserError: naming everything that is wrong at once.
    """
    errors: list[UserError] = []
    for checked in (_levels, _claims, _sizes):
        errors += checked(config)
    errors += _items(dataset)
    errors += _judge(config)
    errors += _folder(config, out)
    if not config.model.startswith("planted:"):
        errors += _caught(locate, config.model)
    raise_all(errors)


def _caught(function: Any, *args: Any) -> list[UserError]:
    try:
        function(*args)
    except UserError as error:
        return [error]
    return []


def _levels(config: AuditConfig) -> list[UserError]:
    """A rank test on N random Locations cannot go below 1 / (1 + N)."""
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
    errors = [error for source in config.claims if source != "probe" for error in _caught(claims.given, source)]
    names = list(config.claims)
    if len(set(names)) < len(names) or not names:
        errors.append(UserError("one or more different claims", ", ".join(names) or "none", "Name each claim once."))
    shape = _shape(config.model)
    if shape is None:
        return errors
    for source in names:
        if source == "probe":
            if config.claim_size >= shape[0] * shape[1]:
                errors.append(
                    UserError(
                        f"a claim of fewer than all {shape[0] * shape[1]} heads", str(config.claim_size), "Use --claim-size."
                    )
                )
            continue
        try:
            location = claims.given(source).location
        except UserError:
            continue
        wrong = _caught(location.check, *shape)
        errors += wrong or _caught(null.draw, location, *shape, config.random, config.seed, config.null)
    return errors


def _shape(name: str) -> tuple[int, int] | None:
    """Layers and query heads of a model from its configuration alone, if it can be had without weights."""
    if name.startswith("planted:"):
        return None
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(locate(name)[0])
        return int(config.num_hidden_layers), int(config.num_attention_heads)
    except (UserError, OSError, ValueError, AttributeError):
        return None  # said by the check of the model itself, or when it is loaded


def _sizes(config: AuditConfig) -> list[UserError]:
    errors = []
    for name in ("alphas", "taus", "lr_scales"):
        values = getattr(config, name)
        if any(value <= 0 for value in values) or (not values and name != "alphas"):
            errors.append(UserError(f"{name} above 0", str(list(values)), f"Mend {name}."))
    if config.shift_random > config.random:
        errors.append(
            UserError(
                f"at most {config.random} random Locations to steer",
                str(config.shift_random),
                "Lower shift_random or raise random.",
            )
        )
    if not config.reads or not config.full_forms:
        errors.append(UserError("at least one read mode and one form of full alignment", "none", "Give reads and full_forms."))
    return errors


def _judge(config: AuditConfig) -> list[UserError]:
    """A judge that can be had, where one is asked for; and one asked for where the metric needs it."""
    if config.judge != "none":
        return _caught(named.check, config.judge)
    if config.metric in JUDGED:
        return [
            UserError(
                f"a judge, for the metric {config.metric}",
                "judge none",
                "Use --set judge=local, or a metric of multiple choice: mc1, mc2, mc3 or margin.",
            )
        ]
    return []


def _items(dataset: Dataset) -> list[UserError]:
    """Items without an answer to compare, or with a best answer that is none of them."""
    wrong = [
        f"{item.id} ({item.question[:50]!r}): {problem}"
        for item in dataset.items
        for problem in problems(item)
        if "twice" not in problem
    ]
    if not wrong:
        return []
    shown = "; ".join(wrong[:10]) + (f"; and {len(wrong) - 10} more" if len(wrong) > 10 else "")
    return [UserError("questions with true answers, false answers and a best one among the true", shown, "Mend the data.")]


def _folder(config: AuditConfig, out: Path) -> list[UserError]:
    """The run folder is empty, or holds this very audit."""
    if out.exists() and not out.is_dir():
        return [UserError("a folder for the run", f"{str(out)!r}, which is a file", "Give another --out.")]
    if not out.exists():
        return []
    present = {child.name for child in out.iterdir() if not child.name.startswith(".")}
    if not present:
        return []
    if "plan.json" not in present:
        return [UserError("an empty folder or one of this audit", f"{str(out)!r} with other files", "Give another --out.")]
    try:
        old = json.loads((out / "plan.json").read_text(encoding="utf-8"))["config"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        return [UserError("a readable plan.json", f"{str(out / 'plan.json')!r} ({error!r})", "Give another --out.")]
    new = config.model_dump(mode="json")
    differ = [
        f"{name}: {old.get(name)!r} there, {new.get(name)!r} now"
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
