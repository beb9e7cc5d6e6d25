"""exchange:NAME, another behaviour with its sides exchanged: what was unwanted is wanted, and the other way round.

Any behaviour can be named behind it, a file too. Of several unwanted answers the first counts as the best. The judge that it
names is exchanged, too; a judge of truth judges nothing of it, since what is wanted is false.
"""

from dataclasses import replace

from locus.behaviours.items import SIDES, Dataset, Item

PREFIX = "exchange:"


def exchanged(dataset: Dataset) -> Dataset:
    """The same questions with the sides exchanged; twice exchanged, it is called as before."""
    name = dataset.name.removeprefix(PREFIX) if dataset.name.startswith(PREFIX) else PREFIX + dataset.name
    judge = _turned_judge(dataset.judge) if dataset.notions == SIDES else ""
    return replace(dataset, name=name, items=tuple(map(_turned, dataset.items)), judge=judge, notions=SIDES)


def _turned_judge(judge: str) -> str:
    """The judge that a behaviour names, exchanged."""
    return judge.removeprefix(PREFIX) if judge.startswith(PREFIX) or not judge else PREFIX + judge


def _turned(item: Item) -> Item:
    return replace(item, wanted=item.unwanted, unwanted=item.wanted, best=item.unwanted[0])


def open_behaviour(name: str) -> Dataset:
    """The behaviour behind the colon, exchanged.

    Raises:
        UserError: if there is no such behaviour, or its file is wrong.
    """
    from locus.behaviours import load  # which finds this file by its name

    return exchanged(load(name.removeprefix(PREFIX)))
