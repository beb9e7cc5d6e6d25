"""Pages as all of ours are made: one file, one style sheet known by its hash, and every text shown harmless.

No page runs a script but a table of audits, whose one script is known by its hash, too; without it the page says the same.

A template escapes whatever it puts into the page. Before that, each value that is no markup of ours is made visible: hidden
characters are spelled out and what is too long is cut. A template cannot forget it, since it is done to every expression.
"""

import base64
import hashlib
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, TemplateError
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


def render(made: Environment, name: str, images: bool = False, script: str = "", **values: Any) -> str:
    """A page of one of the templates, whose policy allows its own style sheet alone: no other style, no request.

    Args:
        made: the environment.
        name: of the template.
        images: whether the page holds images, in itself.
        script: the template of the one script that it may run, if any; the page has it as `script`.
        values: what the template shows.

    Raises:
        ValueError: if a value lacks what the template shows of it.
    """
    style = made.get_template("page.css").render()
    code = made.get_template(script).render() if script else ""
    allowed = [*(["img-src data:"] if images else []), *([f"script-src '{_digest(code)}'"] if code else [])]
    policy = "; ".join(["default-src 'none'", *allowed, f"style-src '{_digest(style)}'", "base-uri 'none'", "form-action 'none'"])
    if code:
        values["script"] = Markup(code)
    try:
        return made.get_template(name).render(style=Markup(style), policy=policy, **values)
    except TemplateError as error:
        raise ValueError(str(error)) from error


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def isolated(text: Any, limit: int = LIMIT) -> Markup:
    """Untrusted text: made visible, escaped, and kept from turning the text around it."""
    return Markup("<bdi>") + escape(visible(text, limit)) + Markup("</bdi>")


def listing(text: str) -> Markup:
    """Text of several lines, which keeps them."""
    return escape(harmless(text))


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Markup | int | float) else visible(value, LONGEST)
