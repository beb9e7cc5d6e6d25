"""Conversations as a question and an answer: chat lists, and transcripts of "Human:" and "Assistant:".

A question is one text of a user, so what has a system message or several turns makes none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from locus.behaviours.readers.reader import Fields, LeftOut

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SEVERAL = "a conversation of several turns, which one question does not hold"
SYSTEM = "a system message, which a question does not hold"


@dataclass(frozen=True)
class Turn:
    """What somebody says in a conversation: user, assistant or system."""

    role: str
    text: str


def turns(fields: Fields, name: str) -> list[Turn]:
    """A conversation, from a chat list or a transcript; a text that is neither is a turn without a role.

    Raises:
        ValueError: if it is nothing of the kind.
    """
    if isinstance(fields.row.get(name), list):
        made = [Turn(one.text("role"), one.text("content")) for one in fields.parts(name)]
        if unknown := [one.role for one in made if one.role not in ("user", "assistant", "system")]:
            raise ValueError(f"the role {unknown[0]!r} in {name!r}, which is none of user, assistant and system")
        if not made:
            raise ValueError(f"{name!r} is empty")
        return made
    text = fields.text(name)
    pieces = TURN.split(text)
    if len(pieces) == 1 or pieces[0].strip():
        return [Turn("", text)]
    spoken = [Turn(ROLES[role], said.strip()) for role, said in zip(pieces[1::2], pieces[2::2], strict=True)]
    return [one for one in spoken if one.text]  # a prompt ends where the assistant is to speak


def asked(before: Sequence[Turn]) -> str:
    """The question of what comes before an answer.

    Raises:
        LeftOut: if it is no single turn of a user.
    """
    if any(one.role == "system" for one in before):
        raise LeftOut(SYSTEM)
    if len(before) != 1 or before[0].role == "assistant":
        raise LeftOut(SEVERAL)
    return before[0].text


def answered(fields: Fields, name: str) -> tuple[list[Turn], str]:
    """What comes before an answer in its conversation, if anything, and the answer.

    Raises:
        ValueError: if the conversation does not end with the assistant.
    """
    spoken = turns(fields, name)
    if spoken[-1].role not in ("", "assistant"):
        raise ValueError(f"{name!r} does not end with the assistant")
    return spoken[:-1], spoken[-1].text
