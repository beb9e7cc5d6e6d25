"""The user's word: what a plan or a receipt names is opened, run or asked only where the user of this very command names it.

A run folder may be a stranger's. What comes with the package is let through by its name; every other name that such a file has
is only shown, and the user gives their own in its place, which is then held against the fingerprints in the plan. So a file
chooses no path, no download, no address and no code.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from locus.errors import UserError
from locus.models import own_code
from locus.models.adapter import MERGED, NONE
from locus.models.locate import DEFAULT_MODEL, on_hub
from locus.models.packaged import MODELS
from locus.plan.config import AuditConfig
from locus.registry import MEMORY, OWN, Kind, shipped
from locus.shown import visible

# Settings by which a plan could choose what is opened, run or asked. All others are numbers, and words out of a list.
NAMING = {
    "model",
    "revision",
    "trust_remote_code",
    "adapter",
    "device",
    "device_map",
    "data",
    "also",
    "claims",
    "text",
    "judge",
    "judge_url",
    "judge_figures",
    "metric",
    "metrics",
    "edit",
    "steering",
    "executor",
    "site_kind",
}
# Settings that name what is registered.
REGISTERED: dict[str, Kind] = {
    "metric": "metrics",
    "metrics": "metrics",
    "edit": "edits",
    "steering": "edits",
    "site_kind": "sites",
}
PARTS = ("model", "data", "text", "judge")
_PLANTED = r"planted:[a-z0-9-]{1,40}(:[0-9]{1,18}(:shuffled)?)?"
_TASK = r"task:[a-z-]{1,40}(:[0-9]{1,5}(:[0-9]{1,18})?)?"
_EMBEDDED = "|".join(re.escape(one.name) for one in OWN["behaviours"] if one.embedded)
_JUDGES = "|".join(re.escape(one.name) + one.within for one in OWN["judges"] if one.within is not None)
BUILT_IN = {
    "model": re.compile(rf"{'|'.join(map(re.escape, MODELS))}|{_PLANTED}"),
    "data": re.compile(rf"(exchange:)?({_EMBEDDED}|{_TASK}|{_PLANTED})"),
    "text": re.compile("pydoc"),
    "judge": re.compile(rf"none|(exchange:)?({_JUDGES})"),
}
NOTHING = {"model": DEFAULT_MODEL, "data": "misconceptions", "text": "pydoc", "judge": "none"}  # where a part is not needed
HUB = {"data": "truthfulqa", "text": "openwebtext"}
BESIDE = (None, NONE, MERGED)  # an adapter that lies beside the user's own model, or none
COMMIT = re.compile("[0-9a-f]{40}")
LONGEST = 120  # letters of a name that are shown


@dataclass(frozen=True)
class Given:
    """What the user of a command gave on it; None is what was not given.

    Attributes:
        model, revision, data, text, judge: as the settings of an audit.
        judge_url: base URL of the endpoint of an `api:MODEL`.
        trust_remote_code: whether Python code that comes with the model may be run.
        adapter: as the setting of an audit.
        own: what does not come with the package and may be used, as `metrics:NAME`.
        also: the other behaviours on which edits are scored, all of them, in the run's order.
    """

    model: str | None = None
    revision: str | None = None
    data: str | None = None
    text: str | None = None
    judge: str | None = None
    judge_url: str | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    own: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lack:
    """What a file names and nobody gave: the flag that gives it, the name, and what would have been done with it."""

    flag: str
    name: str
    would: str


def settle(
    recorded: Mapping[str, Any],
    given: Given,
    needs: Collection[str] = PARTS,
    claims: tuple[str, ...] = ("probe",),
    where: str = "plan",
) -> AuditConfig:
    """The settings to go by: the recorded ones, with the user's own word for everything that names something.

    Args:
        recorded: the settings in a plan or a receipt.
        given: what the user of this command gave.
        needs: the parts that are going to be used, of `PARTS`. A judge that is not among them is left out (`none`) unless it
            comes with the package or is given; the other parts open nothing.
        claims: sources of claims, none of them a path that the file chose.
        where: the file that names things, for the error.

    Raises:
        UserError: if the settings are none, or one sentence with all that is needed and was not given.
    """
    config = _read(recorded, where)
    chosen = {part: _chosen(part, config, given, needs) for part in PARTS}
    lacking = [_lack(part, config) for part in PARTS if chosen[part] is None and part in needs]
    revision = given.revision
    if chosen["model"] is not None and "model" in needs:
        revision, more = _revision(chosen["model"], config, given)
        lacking += more + _code(chosen["model"], config, given)
    if "model" in needs and given.adapter is None and config.adapter not in BESIDE:
        lacking.append(Lack("--adapter", str(config.adapter), "would be loaded"))
    if "data" in needs:  # trials are run, and not only a model opened
        lacking += [Lack("--own", one, "would be imported and run") for one in _foreign(config) if one not in given.own]
        lacking += [Lack("--also", one, "would be opened") for one in _others(config, given)]
    if lacking:
        raise _refusal(lacking, where)
    update: dict[str, object] = {part: name if name is not None else NOTHING[part] for part, name in chosen.items()}
    update["also"] = (given.also or config.also) if "data" in needs else ()
    update |= {"revision": revision, "trust_remote_code": given.trust_remote_code, "claims": claims}
    update["adapter"] = config.adapter if given.adapter is None else given.adapter
    update |= {"judge_url": given.judge_url, "judge_figures": None, "executor": "auto"}
    # A processor is the only device that every machine has; any other is chosen by what there is.
    update["device"] = "cpu" if config.device == "cpu" else "auto"
    update["device_map"] = None if config.device_map is None else "auto"
    update["tp_plan"] = None  # whoever repeats a run does so in one process
    return config.model_copy(update=update)


def _read(recorded: Mapping[str, Any], where: str) -> AuditConfig:
    """Recorded settings, those of the first edition with what it did where it had no setting."""
    try:
        return AuditConfig.recorded(recorded)
    except (ValidationError, TypeError) as error:
        raise UserError(f"a {where} with settings of an audit", visible(error, LONGEST), "Check where it comes from.") from error


def _chosen(part: str, config: AuditConfig, given: Given, needs: Collection[str]) -> str | None:
    """The user's word for a part, or the file's where that comes with the package; None where there is neither."""
    if part not in needs and part != "judge":
        return NOTHING[part]
    if part == "text" and not config.text_passages:
        return NOTHING[part]
    own: str | None = getattr(given, part)
    named: str = getattr(config, part)
    return own if own is not None else named if BUILT_IN[part].fullmatch(named) else None


def _foreign(config: AuditConfig) -> list[str]:
    """What the settings name of other packages, or of a script, each as KIND:NAME."""
    sources = []
    for setting, kind in REGISTERED.items():
        value = getattr(config, setting)
        named = [name.partition("@")[0] for name in (value if isinstance(value, tuple) else (value,))]  # mlp@subject is of mlp
        sources += [f"{kind}:{name}" for name in named if name and not shipped(kind, name)]
    return list(dict.fromkeys(sources))


def _others(config: AuditConfig, given: Given) -> tuple[str, ...]:
    """The other behaviours that the settings name and that neither come with the package nor were given."""
    if given.also and len(given.also) != len(config.also):
        wanted = f"the {len(config.also)} other behaviours on which edits are scored, all of them and in their order"
        raise UserError(wanted, f"{len(given.also)}", "Give --also for each, those that come with the package too.")
    return () if given.also else tuple(one for one in config.also if not BUILT_IN["data"].fullmatch(one))


def _lack(part: str, config: AuditConfig) -> Lack:
    """What a file names for a part, and what would have become of it."""
    name: str = getattr(config, part)
    would = "would be opened"
    if name.startswith(MEMORY):
        return Lack(f"--{part}", name, "lay in somebody's memory")
    if part == "model":
        would = "would be downloaded from the hub" if on_hub(name) else "would be loaded"
        would += ", and Python code that comes with it run" if config.trust_remote_code else ""
    elif name == HUB.get(part):
        would = "would be downloaded from the hub"
    elif part == "judge" and name.startswith("api:"):
        address = f" at {visible(config.judge_url, LONGEST)!r}" if config.judge_url else ""
        would = f"would be asked{address}, with your key"
    return Lack(f"--{part}", name, would)


def _revision(model: str, config: AuditConfig, given: Given) -> tuple[str | None, list[Lack]]:
    """The revision of a hub model. A file's counts only where it is a commit, of a model that the user gave, and runs no code:
    anybody can put a commit into anybody's repository by proposing it.
    """
    if given.revision is not None or not on_hub(model):
        return given.revision, []
    if config.revision is None:
        return None, []
    if COMMIT.fullmatch(config.revision) and not given.trust_remote_code:
        return config.revision, []
    return None, [Lack("--revision", config.revision, "would choose what is downloaded, and run where code is trusted")]


def _code(model: str, config: AuditConfig, given: Given) -> list[Lack]:
    """The code of a given model folder, where the run was made with it and the user did not ask for it now."""
    if not config.trust_remote_code or given.trust_remote_code:
        return []
    files = own_code.named_in(model)
    return [Lack("--trust-remote-code", ", ".join(files), "comes with the model's folder and would be run")] if files else []


def _refusal(lacking: list[Lack], where: str) -> UserError:
    """One sentence with all that is lacking."""
    listed = "; ".join(f"{one.flag[2:]} {visible(one.name, LONGEST)!r}, which {one.would}" for one in lacking)
    flags = ", ".join(one.flag for one in lacking)
    return UserError(
        f"your own word for what the {where} names, since nothing is opened, run or asked because a file says so",
        listed,
        f"Give {flags} if you trust it; what you give is held against the fingerprints in the {where}.",
    )
