"""Read a plan.json, whoever wrote it: of a known schema, whole, and with a configuration that is one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locus import registry
from locus.boundary import incoming
from locus.errors import UserError
from locus.machine.heap import growing
from locus.plan.config import AuditConfig
from locus.records.plan import PLAN_SCHEMAS, PlanRecord

# Kinds of which a plan may name another's: the setting that names one, and the one that names several.
OWN: tuple[tuple[registry.Kind, str, str], ...] = (("metrics", "metric", "metrics"), ("edits", "edit", "steering"))


class NotKnownHereError(UserError):
    """A plan is whole, and names what a package or a script that is not here has made known."""


@growing()
def read_plan(out: Path) -> PlanRecord:
    """The plan.json of a run folder.

    Raises:
        UserError: if there is none, it is not whole, or another version of locus wrote it; `NotKnownHereError` if it names a
            metric or an edit that is not known here.
    """
    path = out / "plan.json"
    try:
        content = incoming.read_json(path, "a run folder with its plan.json, whole", inside=out)
        if (schema := content.get("schema")) in PLAN_SCHEMAS:
            plan = PlanRecord.parse(content)
            _check_own(plan.config)
            AuditConfig.recorded(plan.config)
            return plan
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        received = f"{str(path)!r} ({type(error).__name__}: {str(error)[:160]})"
        raise UserError("a plan.json that is whole", received, "Audit again into another --out.") from error
    known = " or ".join(PLAN_SCHEMAS)
    raise UserError(f"a plan of schema {known}", f"{str(schema)[:80]!r} in {str(path)!r}", "Use a newer locus.")


def _check_own(config: Mapping[str, Any]) -> None:
    """That the metrics and edits of other packages and of scripts, which a plan may name, are known in this process.

    Raises:
        NotKnownHereError: naming those that are not.
    """
    named: list[tuple[registry.Kind, Any]] = []
    for kind, one, several in OWN:
        many = config.get(several)
        named += [(kind, name) for name in (config.get(one), *(many if isinstance(many, list) else ()))]
    if unknown := [f"{kind}:{name}" for kind, name in named if isinstance(name, str) and not registry.known(kind, name)]:
        raise NotKnownHereError(
            "the metrics and edits that the plan names to be known here",
            f"none called {', '.join(dict.fromkeys(unknown))[:300]}",
            "Install the package they are from, or import the file that registers them: locus --import FILE COMMAND.",
        )
