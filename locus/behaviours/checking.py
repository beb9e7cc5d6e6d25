"""Items held against those that were read before them: names given twice, contradicting labels, questions in two groups."""

from locus.behaviours.items import Item, contradicted, problems, repeats


class Checker:
    """Looks at items one by one, each against itself and all before it.

    Args:
        unit: what an item was read from ("line", "row").
    """

    def __init__(self, unit: str):
        self.unit = unit
        self._ids: dict[str, int] = {}
        self._groups: dict[str, tuple[str, int]] = {}
        self._labels: dict[tuple[str, str], bool] = {}

    def wrong(self, number: int, item: Item) -> list[str]:
        """What is wrong with an item, one sentence each; empty if it can be used.

        Args:
            number: of the line or row that it comes from.
            item: the question.
        """
        wrong = problems(item) + (repeats(item) or contradicted(item, self._labels))
        if item.id in self._ids:
            wrong.append(f"the id {item.id!r} is that of {self.unit} {self._ids[item.id]} too")
        self._ids[item.id] = number
        group, line = self._groups.setdefault(item.question, (item.group, number))
        if group != item.group:
            wrong.append(f"the question of {self.unit} {line} again, in another group: a split could cut it")
        return wrong
