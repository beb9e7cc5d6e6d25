"""A question with its choices, one or more of which are right: what several readers make items of."""

from collections.abc import Collection, Sequence

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.letters import letter, resolved


def chosen(id: str, question: str, choices: Sequence[str], right: Collection[int], category: str = "") -> Item:
    """An item: the right choices are wanted, the others unwanted. Letters become the texts of the question's options.

    Args:
        id: of the item.
        question: as it is asked.
        choices: all answers.
        right: the places of those that are right.
        category: of the item.

    Raises:
        ValueError: if nothing is right, nothing is wrong, or letters name no options.
    """
    if outside := [place for place in right if place not in range(len(choices))]:
        raise ValueError(f"choice {outside[0]}, where there are {len(choices)} from 0 on")
    if not right or len(right) == len(choices):
        raise ValueError(f"{len(right)} of {len(choices)} choices are right")
    texts = tuple(choices)
    if all(map(letter, texts)):
        question, texts, _ = resolved(question, texts)
    wanted = tuple(text for place, text in enumerate(texts) if place in right)
    unwanted = tuple(text for place, text in enumerate(texts) if place not in right)
    return Item(id, question, wanted, unwanted, wanted[0], normalise(question), category)
