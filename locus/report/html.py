"""Pages as all of ours are made: one file, one style sheet known by its hash, no script, and every text shown harmless.

A template escapes whatever it puts into the page. Before that, each value that is no markup of ours is made visible: hidden
characters are spelled out and what is too long is cut. A template cannot forget it, since it is done to every expression.
"""

import base64
import hashlib
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from locus.shown import LIMIT, harmless, visible

LONGEST = 4000  # characters of one text, wherever no template asks for less


def environment(*packages: str) -> Environment:
    """The templates of some packages of locus, those of the first before those of the next, and the report's."""
    loader = ChoiceLoader([PackageLoader("locus", name) for name in (*packages, "report")])
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    made.filters |= {"shown": isolated, "listing": listing}
    return made


def sheet(made: Environment, images: bool = False) -> dict[str, Any]:
    """The style sheet, and the policy that allows this one sheet alone: no script, no inline style, no request.

    Args:
        made: the environment.
        images: whether the page holds images, in itself.
    """
    style = made.get_template("page.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    pictures = "img-src data:; " if images else ""
    policy = f"default-src 'none'; {pictures}style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return {"style": Markup(style), "policy": policy}


def isolated(text: Any, limit: int = LIMIT) -> Markup:
    """Untrusted text: made visible, escaped, and kept from turning the text around it."""
    return Markup("<bdi>") + escape(visible(text, limit)) + Markup("</bdi>")


def listing(text: str) -> Markup:
    """Text of several lines, which keeps them."""
    return escape(harmless(text))


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Markup | int | float) else visible(value, LONGEST)
