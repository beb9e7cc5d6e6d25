"""What controls can be asked for, seen before any weight is loaded: a twin of the model, other formats, labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from locus import registry
from locus.errors import UserError
from locus.models.checkpoint import no_twin, read_config
from locus.models.packaged import MODELS
from locus.plan.config import AuditConfig
from locus.records.labels import METRICS as READ

if TYPE_CHECKING:
    from locus.models.model import Model


def problems(config: AuditConfig, opened: "Model | None" = None) -> list[UserError]:
    """What stands in the way of the controls that are asked for.

    Args:
        config: what is asked for.
        opened: the model, where it is open already.
    """
    errors = [no_twin(config.model)] if config.twin is not None and _quantised(config.model, opened) else []
    if config.prompt in config.transfer or len(set(config.transfer)) < len(config.transfer):
        errors.append(not_other(config.prompt, config.transfer))
    return errors + _labels(config)


def not_other(prompt: str, transfer: Sequence[str]) -> UserError:
    """Why some prompt formats are none to which edits could be carried over."""
    wanted = f"different prompt formats for transfer, other than {prompt}, in which edits are trained"
    return UserError(wanted, ", ".join(transfer), "Name each once, and leave the audit's own out.")


def _labels(config: AuditConfig) -> list[UserError]:
    """Answers that people are to read, where a judge reads them all and the verdict is by what both say."""
    if not config.labels:
        return []
    from locus.stats.powered import LEAST  # scipy behind it is slow to import

    if config.judge == "none" or config.metric not in READ:
        received = f"labels = {config.labels} with judge = {config.judge} and metric = {config.metric}"
        wanted = f"labels where a judge reads all answers, and the verdict is by {', '.join(READ)}"
        return [UserError(wanted, received, "Give --set judge=local, or leave labels out.")]
    each = 2 + 3 * len(config.claims) * len(config.reads)
    if config.labels < (least := LEAST * each):
        received, remedy = f"labels = {config.labels}", f"Give --set labels={least} or more."
        return [UserError(f"labels for at least {LEAST} questions, {each} answers of each", received, remedy)]
    return []


def _quantised(name: str, opened: "Model | None") -> bool:
    """Whether weights are known to be quantised, as far as files say it."""
    if opened is not None:
        return opened.quantised
    if name in MODELS or name.endswith(".gguf"):
        return True
    config = Path(name) / "config.json"
    known = not registry.known("models", name) and config.is_file()
    return known and "quantization_config" in read_config(config)
