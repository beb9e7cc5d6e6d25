"""A toy executor: every task in the last order of all, and each in a process of its own."""

import os
from collections.abc import Generator
from multiprocessing import get_context
from typing import Any

from locus.run.executors import Tasks

USED: list[int] = []


class Backwards:
    """Forks one process a task, the last task first, and gives the results in order."""

    def run(self, tasks: Tasks) -> Generator[Any, None, None]:
        """The results."""
        found = {}
        for place in reversed(range(len(tasks.jobs))):
            here, there = get_context("fork").Pipe()
            process = os.fork()
            if process == 0:
                there.send(tasks.work(tasks.jobs[place], lambda share: None))
                os._exit(0)
            found[place] = here.recv()
            os.waitpid(process, 0)
            USED.append(place)
        for place in range(len(tasks.jobs)):
            yield found[place]
