"""Options that several commands share: of those that go by somebody's plan, the user's own word for whatever it names."""

from collections.abc import Sequence
from typing import Annotated, Any

from typer import Option

from locus.errors import UserError

ARGUMENTS = {"out", "config", "sign", "progress", "behaviour", "claim", "kind", "size", "compare"}  # no settings

OwnModel = Annotated[
    str | None, Option("--model", help="Your own model, where the run's does not come with the package: hub id, folder, GGUF.")
]
OwnAdapter = Annotated[str | None, Option("--adapter", help="Likewise the adapter: none, merged, or its folder.")]
OwnRevision = Annotated[str | None, Option("--revision", help="Of a hub model; one that the run names counts only if a commit.")]
OwnData = Annotated[
    str | None, Option("--data", "--behaviour", help="Your own copy of the questions, where they do not come with the package.")
]
OwnAlso = Annotated[
    list[str] | None,
    Option("--also", help="Likewise the other behaviours on which edits are scored: all of them, in the run's order."),
]
OwnText = Annotated[str | None, Option("--text", help="Likewise the text for KL and cross-entropy.")]
OwnJudge = Annotated[
    str | None, Option("--judge", help="Likewise the judge: local:WEIGHTS, lm:MODEL, api:MODEL; none: no judge.")
]
OwnUrl = Annotated[
    str | None, Option("--judge-url", help="Endpoint of api:MODEL.", show_default="OPENAI_BASE_URL; never what a run says")
]
OwnParts = Annotated[
    list[str] | None,
    Option("--own", help="A metric or an edit that does not come with the package, as metrics:NAME; may be repeated."),
]
Trust = Annotated[bool, Option("--trust-remote-code", help="Run the Python code that comes with the model you give.")]


def flags(settings: Sequence[str] | None, **given: Any) -> dict[str, Any]:
    """What was given on a command line, as the library takes it: flags that were left out are left out.

    Args:
        settings: of `--set NAME=VALUE`; a flag of the same name wins.
        given: by name.

    Raises:
        UserError: for a `--set` that is no setting.
    """
    from locus.boundary.settings import from_flags  # slow to import, and not needed for help

    named = from_flags(settings)
    if wrong := sorted(named.keys() & ARGUMENTS):
        raise UserError("--set with a setting's name", ", ".join(wrong), "See docs/configuration.md.")
    return named | {name: value for name, value in given.items() if value is not None}


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between.

    Raises:
        UserError: if they are none.
    """
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError as error:
        raise UserError("whole numbers such as 1,8,64", repr(text[:80]), "Mend --devices.") from error


def unless(preset: str) -> str | None:
    """A preset that was given; the usual one may also be asked for by --set."""
    return None if preset == "quick" else preset


def asked(behaviour: str | None, exchange: bool) -> str | None:
    """The behaviour of a command line, with its sides exchanged where that is asked for.

    Raises:
        UserError: if none is named whose sides could be.
    """
    if not exchange:
        return behaviour
    if behaviour is None:
        raise UserError("--exchange with --data", "no --data", 'Name the behaviour, or write data = "exchange:NAME" in a file.')
    return f"exchange:{behaviour}"
