"""Render a model's chat template: under a clock that stands still, in bounded time and memory, and look at what it does.

A template is a program that comes with a model. It may write the day's date, so that a run could be neither resumed nor repeated
the next day; it may leave a thought open, so that answers are read inside it; it may alter or drop what the user says; it may
never end. It is rendered as transformers renders it, in a process of its own with limits (where processes can be forked), and
what it makes of a question is held against the question.
"""

import json
import multiprocessing
import os
import random
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from locus.errors import UserError

DATE = date(2024, 7, 26)  # what Llama 3's templates write where nobody tells them the date
ELSEWHEN = date(2001, 2, 3)  # differs from it in weekday, day, month and year
QUESTION = "{question}"
ANSWER = "An answer to be found again."
# What templates are known to do to a text: change its case, escape it, trim or fold its blanks.
PROBE = "Is \"\u00dcnder\"  <b>&amp;</b> 'twice'\n  {{ 1 }} \\ HELD?"
SECONDS = 10.0
MEMORY = 1 << 30  # bytes beyond what this process has
CHARACTERS = 1 << 20
RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "strftime_now")
SWITCHES = ("enable_thinking", "thinking")  # variables by which templates let a model think, or not
TAGS = r"(?:think|thinking|thought|reason|reasoning|seed:think)"
OPENING = re.compile(rf"<{TAGS}>|\[THINK\]")
CLOSING = re.compile(rf"</{TAGS}>|\[/THINK\]")
CHANNEL = "<|channel|>analysis"

Scalar = bool | int | float | str
Chat = list[dict[str, str]]


@dataclass(frozen=True)
class Rendered:
    """What a chat template makes of a question.

    Attributes:
        prompt: the text up to the answer; `{question}` is where the question goes.
        closing: what stands behind an answer; "" where the template will not say.
        notices: what the user should know of it, as sentences.
    """

    prompt: str
    closing: str
    notices: tuple[str, ...]


def render(tokenizer: Any, day: date = DATE, variables: Mapping[str, Scalar] | None = None) -> Rendered:
    """What a tokenizer's chat template makes of a question.

    Args:
        tokenizer: one with a chat template.
        day: what the template is told if it asks for the time, which is midnight.
        variables: what the template is told besides, such as `enable_thinking`.

    Raises:
        UserError: if the template fails, does not end, writes too much, knows no such variable, or does not write the question
            once and as it is.
    """
    variables_given = dict(variables or {})
    try:
        source = str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, and none that is the default
        raise _refused(_line(error)) from error
    unknown = [name for name in variables_given if name in RESERVED or not _names(source, name)]
    if unknown:
        raise UserError(
            "template_variables that the model's chat template reads",
            f"{', '.join(map(repr, unknown))}, which it does not",
            "Mend or leave out the name; it must stand in the template as a variable.",
        )
    with _clock(day):
        now = tokenizer.apply_chat_template([{}], chat_template="{{ strftime_now('%Y-%m-%d') }}", tokenize=False)
    assert now == day.isoformat(), f"the clock of transformers' templates could not be stopped: {now}"
    texts = bounded(lambda: _texts(_Renderer(tokenizer, day, variables_given), source))
    prompt = texts["prompt"]
    if prompt.count(QUESTION) != 1 or prompt.replace(QUESTION, PROBE) != texts["probe"]:
        raise _refused("one that drops, repeats or alters the question")
    _, answer, closing = texts["talk"].rpartition(ANSWER)
    notices = [
        f"The template variable {name} changes nothing of the prompt."
        for name in variables_given
        if texts[f"without {name}"] == prompt
    ]
    if texts["elsewhen"] not in ("", prompt):
        notices.append(f"The chat template writes a date, and is told {day.isoformat()} on every day (setting template_date).")
    return Rendered(prompt, closing if answer else "", (*notices, *_thoughts(source, texts, variables_given)))


@dataclass(frozen=True)
class _Renderer:
    """A tokenizer's chat template with what it is told; `day_named`, whether the day goes into a variable, too."""

    tokenizer: Any
    day: date
    variables_given: Mapping[str, Scalar]
    day_named: bool = False

    def made(self, chat: Chat, **changed: Any) -> str:
        """A chat as text, with some of what is told changed.

        Raises:
            ValueError: if it is too long, or no text; and whatever the template raises.
        """
        day, variables_given = changed.get("day", self.day), changed.get("variables_given", self.variables_given)
        if self.day_named:
            variables_given = {"date_string": day.strftime("%d %b %Y"), **variables_given}
        random.seed(0)  # a template may draw
        with _clock(day):
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=chat[-1]["role"] == "user", **variables_given
            )
        if len(text) > CHARACTERS:
            raise ValueError(f"one that writes {len(text):,} characters, where {CHARACTERS:,} at most are read")
        text.encode()  # half of a surrogate pair is no text
        return str(text)

    def tried(self, chat: Chat, **changed: Any) -> str:
        """As `made`, and "" where the template raises."""
        try:
            return self.made(chat, **changed)
        except Exception:
            return ""


def _texts(renderer: _Renderer, source: str) -> dict[str, str]:
    """All texts that are looked at: only the prompt and the probe have to be such as the template can make."""
    chat = [{"role": "user", "content": QUESTION}]
    if "date_string" not in renderer.variables_given and _names(source, "date_string"):
        # Where the template's own default is the date that others read from the clock, it is a date, and ours to set.
        reads_clock = renderer.tried(chat, day=DATE) == replace(renderer, day_named=True).tried(chat, day=DATE)
        renderer = replace(renderer, day_named=reads_clock)
    texts = {"prompt": renderer.made(chat), "probe": renderer.made([{"role": "user", "content": PROBE}])}
    texts["elsewhen"] = renderer.tried(chat, day=ELSEWHEN)
    texts["talk"] = renderer.tried([{"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}])
    for name in renderer.variables_given:
        texts[f"without {name}"] = renderer.tried(
            chat, variables_given={key: value for key, value in renderer.variables_given.items() if key != name}
        )
    for name in filter(partial(_names, source), SWITCHES):
        texts |= {
            f"{name} {on}": renderer.tried(chat, variables_given={**renderer.variables_given, name: on}) for on in (False, True)
        }
    return texts


def _names(source: str, name: str) -> bool:
    """Whether a template has a name in it as a word."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", source) is not None


def _thoughts(source: str, texts: Mapping[str, str], variables_given: Mapping[str, Scalar]) -> list[str]:
    """What is to be said of a prompt after which the model is in a thought, or may begin one; and how that is closed."""
    prompt = texts["prompt"]
    switches = [name for name in SWITCHES if f"{name} False" in texts and name not in variables_given]
    remedy = next(
        (
            f"Close it with --set 'template_variables={{{name}=false}}'."
            for name in switches
            if texts[f"{name} False"] not in ("", prompt) and not _open(texts[f"{name} False"])
        ),
        "",
    )
    if _open(prompt):
        problem = "The chat template leaves a thought open, and answers would be read inside it."
        return [f"{problem} {remedy or 'It has no variable that closes it: use --set prompt=qa.'}"]
    # Where a variable starts thoughts that are not there without it, the model does not begin them by itself.
    off = any(texts[f"{name} False"] == prompt != texts[f"{name} True"] for name in switches)
    speaks = CLOSING.search(source) or CHANNEL in source
    closed = CLOSING.search(_behind(prompt))
    if not speaks or closed or off or any(name in variables_given for name in SWITCHES):
        return []
    problem = "The chat template lets the model begin with a thought, and answers are read where it would stand."
    return [f"{problem} {remedy or 'It has no variable that closes it: use --set prompt=qa.'}"]


def _behind(prompt: str) -> str:
    return prompt.rpartition(QUESTION)[2]


def _open(prompt: str) -> bool:
    """Whether a prompt ends inside a thought."""
    ends = [max((match.end() for match in tag.finditer(_behind(prompt))), default=-1) for tag in (OPENING, CLOSING)]
    return ends[0] > ends[1]


def bounded(work: Callable[[], dict[str, str]], refused: Callable[[str], UserError] | None = None) -> dict[str, str]:
    """What a template gives, made in a process that has little time and memory; here where none can be forked.

    Args:
        work: what is done there.
        refused: the error that says, in words that begin with "one that", what went wrong; a template's by default.

    Raises:
        UserError: if it fails, or takes too much of either.
    """
    from locus.machine.workers import fork, forks  # with torch, which those who only want the date do without

    refused = refused or _refused
    if not forks():
        texts = _answer(work)
    else:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = fork(_serve, (sender, work))
        sender.close()
        try:
            if not receiver.poll(SECONDS):
                raise refused(f"one that does not end within {SECONDS:g} s")
            texts = json.loads(receiver.recv_bytes())
        except EOFError:
            raise refused("one that ends the process it is rendered in") from None
        finally:
            process.kill()
            process.join()
            receiver.close()
    if isinstance(texts, str):
        raise refused(texts)
    return texts


def _serve(connection: Connection, work: Callable[[], dict[str, str]]) -> None:
    import resource  # only where processes can be forked

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what goes wrong here is said by who asked
    # If the parent is killed nobody ends this process but the system.
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS) + 1, int(SECONDS) + 1))
    with suppress(OSError, ValueError), open("/proc/self/statm") as status:
        most = int(status.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    connection.send_bytes(json.dumps(_answer(work)).encode())


def _answer(work: Callable[[], dict[str, str]]) -> dict[str, str] | str:
    """What is made, or in a line why not."""
    try:
        return work()
    except Exception as error:  # whatever a template raises is the template's fault
        return _line(error)


def _line(error: Exception) -> str:
    message = " ".join(str(error).split())[:200]
    return message if message.startswith("one that") else f"one that fails ({type(error).__name__}: {message})"


def _refused(received: str) -> UserError:
    return UserError(
        "a chat template that writes the question once, as it is",
        received,
        "Mend the model's chat template, or choose the prompt format 'qa' or 'primer'.",
    )


@contextmanager
def _clock(day: date) -> Iterator[None]:
    """Have transformers' templates read midnight of a day from their clock."""
    from transformers.utils import chat_template_utils

    home: Any = chat_template_utils

    class Still(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime(day.year, day.month, day.day, tzinfo=tz)

    clock = home.datetime
    home.datetime = Still
    try:
        yield
    finally:
        home.datetime = clock
