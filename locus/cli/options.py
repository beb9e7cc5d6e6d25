"""Options of the commands that go by somebody's plan: the user's own word for whatever it names."""

from typing import Annotated

from typer import Option

OwnModel = Annotated[
    str | None, Option("--model", help="Your own model, where the run's does not come with the package: hub id, folder, GGUF.")
]
OwnAdapter = Annotated[str | None, Option("--adapter", help="Likewise the adapter: none, merged, or its folder.")]
OwnRevision = Annotated[str | None, Option("--revision", help="Of a hub model; one that the run names counts only if a commit.")]
OwnData = Annotated[str | None, Option("--data", help="Your own copy of the questions, where they do not come with the package.")]
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
