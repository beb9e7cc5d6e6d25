"""Read a plan.json, whoever wrote it: of a known schema, whole, and with a configuration that is one."""

from pathlib import Path
from typing import Any

from locus.boundary import incoming
from locus.errors import UserError
from locus.machine import threads
from locus.plan.config import AuditConfig
from locus.records import plan as plan_shape

FIRST_PLAN, PLAN_SCHEMA = "locus-plan/1", "locus-plan/2"  # plans of both editions are read
PLAN_SCHEMAS = (FIRST_PLAN, PLAN_SCHEMA)


def read_plan(out: Path) -> dict[str, Any]:
    """The parsed plan.json of a run folder.

    Raises:
        UserError: if there is none, it is not whole, or another version of locus wrote it.
    """
    path = out / "plan.json"
    try:
        plan: dict[str, Any] = incoming.read_json(path, "a run folder with its plan.json, whole", inside=out)
        schema = plan.get("schema")
        if schema in PLAN_SCHEMAS:
            plan_shape.check(plan)
            if schema != FIRST_PLAN and "arithmetic" not in plan:
                raise ValueError("without arithmetic")
            AuditConfig(**plan["config"])
            threads.stated(plan)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        received = f"{str(path)!r} ({type(error).__name__}: {str(error)[:160]})"
        raise UserError("a plan.json that is whole", received, "Audit again into another --out.") from error
    if schema not in PLAN_SCHEMAS:
        raise UserError(
            f"a plan of schema {' or '.join(PLAN_SCHEMAS)}", f"{str(schema)[:80]!r} in {str(path)!r}", "Use a newer locus."
        )
    return plan
