"""Any OpenAI-compatible endpoint as judge of truth: both notions are asked for in one request, with the references in it.

The reply is two lines of yes or no.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from locus.judges.asker import Asker
from locus.judges.base import Judgement, References, check_lengths, unscored
from locus.judges.purse import Endpoint as Endpoint  # where it is looked for
from locus.judges.reading import TRUTHFUL, Message, messages


class ApiJudge(Asker):
    """Judges the truth of answers by asking an endpoint.

    Args:
        model: as the endpoint names it.
        endpoint: where, how fast, and at what cost.
        cache: file in which replies are kept.
        progress: told the share of requests answered.

    Raises:
        UserError: if there is no key or it is none, a cap comes without prices, or the cache cannot be used.
    """

    def __init__(self, model: str, endpoint: Endpoint, cache: Path, progress: Callable[[float], None] = lambda share: None):
        super().__init__(model, endpoint, cache, TRUTHFUL, progress)

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"api:{self.model}"

    @property
    def fingerprint(self) -> str:
        """Of what is asked of whom; final once the judge is `ready`."""
        return self.asked

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Judgement]:
        """One judgement per answer, in order; replies that were had before are not asked for again.

        Raises:
            UserError: if the inputs are not equally long, or as `readings` does.
        """
        nothing = unscored("the question or the answer is empty")
        readings = self.readings(self._chats(questions, answers, references))
        return [one if isinstance(one, Judgement) else nothing for one in readings]

    def outlook(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> tuple[int, float]:
        """How many requests judging these answers takes, those answered before left out, and the most they can cost."""
        return self.cost_of(self._chats(questions, answers, references))

    def chats(self, question: str, answer: str, references: References) -> list[list[Message]]:
        """What is asked about one answer."""
        return [messages(question.strip(), answer.strip(), references)]

    def _chats(
        self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]
    ) -> list[list[Message] | None]:
        """A chat for each answer, in order; none where there is nothing to ask about."""
        check_lengths(questions, answers, references)
        return [
            self.chats(*case)[0] if case[0].strip() and case[1].strip() else None
            for case in zip(questions, answers, references, strict=True)
        ]
