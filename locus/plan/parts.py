"""Parts of a plan, for machines that know nothing of one another: which banks are whose follows from the plan alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from locus.errors import UserError
from locus.plan.trials import Trial

MOST = 10_000


@dataclass(frozen=True)
class Part:
    """One of so many parts.

    Attributes:
        number: counted from one.
        count: of all.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """From `3/8`.

        Raises:
            UserError: if that is none.
        """
        found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text, re.ASCII)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count <= MOST:
            raise UserError("a part such as 3/8, the first being 1/8", f"--part {text[:40]}", "Count from one.")
        return cls(number, count)

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}"

    def banks(self, banks: Sequence[Sequence[Trial]], costs: Sequence[float]) -> list[int]:
        """The numbers of its banks, in order; all parts take about equally long.

        A bank goes where those are done whose edits it starts from, since no part sees what another has made.

        Args:
            banks: of the plan.
            costs: what each takes.
        """
        group = _together(banks)
        numbers_of: dict[int, list[int]] = {}
        for number, one in enumerate(group):
            numbers_of.setdefault(one, []).append(number)
        loads, mine = np.zeros(self.count), list[int]()
        for numbers in sorted(numbers_of.values(), key=lambda numbers: (-sum(costs[one] for one in numbers), numbers[0])):
            least = int(loads.argmin())
            loads[least] += sum(costs[one] for one in numbers)
            mine += numbers if least == self.number - 1 else []
        return sorted(mine)


def _together(banks: Sequence[Sequence[Trial]]) -> list[int]:
    """For every bank the number of one that stands for all that must be done where it is done."""
    owner = {trial.id: number for number, bank in enumerate(banks) for trial in bank}
    group = list(range(len(banks)))
    for number, bank in enumerate(banks):
        for start in (start for trial in bank for start in trial.starts):
            old, new = group[owner[start]], group[number]
            group = [new if one == old else one for one in group]
    return group
