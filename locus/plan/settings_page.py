"""docs/configuration.md: every setting with its default, its presets and what it is."""

from typing import Any

from locus.plan.config import AuditConfig
from locus.plan.presets import PRESETS


def settings_page() -> str:
    """All settings with their defaults and presets, as docs/configuration.md has them."""
    lines = [
        "# Settings",
        "",
        "Every setting of `locus audit`, for `--set NAME=VALUE` and the TOML file of `--config`; some have a flag of their own.",
        "A preset comes first, the file over it, flags over both. Made from `locus/plan/config.py`; a test keeps it so.",
        "",
        "| setting | default | what it is | quick | standard | paper |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, field in AuditConfig.model_fields.items():
        shown = [_shown(PRESETS[preset][name]) if name in PRESETS[preset] else "" for preset in PRESETS]
        lines.append(f"| `{name}` | {_shown(field.default)} | {field.description} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    """A value as TOML has it."""
    if value is None or value == {}:
        return "" if value is None else "`{}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"
