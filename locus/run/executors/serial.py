"""Task after task, in this process."""

from collections.abc import Generator
from functools import partial
from typing import Any

from locus.run.executors.base import Tasks


class Serial:
    """Does every task here."""

    def run(self, tasks: Tasks) -> Generator[Any, None, None]:
        """The result of every job, in order."""
        for place, job in enumerate(tasks.jobs):
            yield tasks.work(job, partial(tasks.progress, place))
