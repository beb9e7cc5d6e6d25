"""How strong is the evidence from editing that a behaviour of a language model is localized?

What the names below stand for is imported when it is first asked for: `import locus` loads neither torch nor transformers.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from locus import registry as registry
    from locus.claims.claim import Claim as Claim
    from locus.door.afterwards import export as export
    from locus.door.afterwards import verify as verify
    from locus.door.behaviour import Behaviour as Behaviour
    from locus.door.behaviour import behaviour as behaviour
    from locus.door.claim import claim as claim
    from locus.door.claim import direction as direction
    from locus.door.claim import probe as probe
    from locus.door.claim import published as published
    from locus.door.forecasting import forecast as forecast
    from locus.door.model import load as load
    from locus.door.model import wrap as wrap
    from locus.door.repeated import repeat as repeat
    from locus.door.run import Run as Run
    from locus.door.run import open_run as open_run
    from locus.door.sizes import calibrate as calibrate
    from locus.door.sizes import power as power
    from locus.door.swept import sweep as sweep
    from locus.door.verbs import audit as audit
    from locus.door.verbs import merge as merge
    from locus.door.verbs import patch as patch
    from locus.door.verbs import plan as plan
    from locus.errors import UserError as UserError
    from locus.errors import VerificationError as VerificationError

_PUBLIC = {
    **dict.fromkeys(("load", "wrap"), "locus.door.model"),
    **dict.fromkeys(("Behaviour", "behaviour"), "locus.door.behaviour"),
    **dict.fromkeys(("claim", "direction", "probe", "published"), "locus.door.claim"),
    **dict.fromkeys(("audit", "merge", "patch", "plan"), "locus.door.verbs"),
    **dict.fromkeys(("calibrate", "power"), "locus.door.sizes"),
    "forecast": "locus.door.forecasting",
    "repeat": "locus.door.repeated",
    "sweep": "locus.door.swept",
    **dict.fromkeys(("export", "verify"), "locus.door.afterwards"),
    **dict.fromkeys(("Run", "open_run"), "locus.door.run"),
    "Claim": "locus.claims.claim",
    **dict.fromkeys(("UserError", "VerificationError"), "locus.errors"),
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """A public name, or the registry of names, imported now and kept."""
    if name == "registry":
        return import_module("locus.registry")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'locus' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What there is, whether it was asked for before or not."""
    return sorted({*globals(), *__all__, "registry"})


class _Front(ModuleType):
    """The package, whose verbs are not hidden by the modules of the same name (`audit`, `patch`, `plan`, `calibrate`).

    Whoever imports `locus.audit` has Python set that module as the package's attribute; here the verb stays.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Front
