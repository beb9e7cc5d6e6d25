"""Read a plan.json, whoever wrote it: of a known schema, whole, and with a configuration that is one."""

from pathlib import Path

from locus.boundary import incoming
from locus.errors import UserError
from locus.plan.config import AuditConfig
from locus.records.plan import PLAN_SCHEMAS, PlanRecord


def read_plan(out: Path) -> PlanRecord:
    """The plan.json of a run folder.

    Raises:
        UserError: if there is none, it is not whole, or another version of locus wrote it.
    """
    path = out / "plan.json"
    try:
        content = incoming.read_json(path, "a run folder with its plan.json, whole", inside=out)
        if (schema := content.get("schema")) in PLAN_SCHEMAS:
            plan = PlanRecord.parse(content)
            AuditConfig.model_validate(plan.config)
            return plan
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        received = f"{str(path)!r} ({type(error).__name__}: {str(error)[:160]})"
        raise UserError("a plan.json that is whole", received, "Audit again into another --out.") from error
    known = " or ".join(PLAN_SCHEMAS)
    raise UserError(f"a plan of schema {known}", f"{str(schema)[:80]!r} in {str(path)!r}", "Use a newer locus.")
