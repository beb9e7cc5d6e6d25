"""Any OpenAI-compatible endpoint as judge: asked many at a time, retried, paid for once, and never beyond the cap.

Both notions are asked for in one request, with the references in it; the reply is two lines of yes or no. One question that
everybody can answer is asked before anything else: what form of request the endpoint takes is settled by it, and an endpoint that
cannot be used is found out. The key comes from the environment, is sent to the endpoint, and is shown and written nowhere.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from locus.errors import UserError
from locus.judges.base import Judgement, References, check_lengths, unscored
from locus.judges.calls import Caller, RefusedError
from locus.judges.purse import Endpoint as Endpoint  # where it is looked for
from locus.judges.reading import FORMS, MAX_REPLY, NOTIONS, PROBE, PROBE_SIDES, SYSTEM, THINKING, RequestForm, read_reply, thinks
from locus.judges.replies import Replies, key_of
from locus.judges.secret import key
from locus.judges.wire import LostError, NonsenseError
from locus.records.base import JsonObject

VERSION = "api/1"
SINGLE = (400, 409, 413, 422)  # refusals that may be of one request alone


class ApiJudge:
    """Judges answers by asking an endpoint.

    Args:
        model: as the endpoint names it.
        endpoint: where, how fast, and at what cost.
        cache: file in which replies are kept.
        progress: told the share of requests answered.

    Raises:
        UserError: if there is no key or it is none, a cap comes without prices, or the cache cannot be used.
    """

    def __init__(self, model: str, endpoint: Endpoint, cache: Path, progress: Callable[[float], None] = lambda share: None):
        self.url, self.model, self.endpoint, self.form, self._progress = endpoint.base(), model, endpoint, RequestForm(), progress
        self._key = key()
        self._caller = Caller(endpoint, self.url, self._key)
        self.purse, self._stop = self._caller.purse, self._caller.stop
        self.replies = Replies(cache)
        self._doubt, self._doubted = threading.Lock(), False

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"api:{self.model}"

    @property
    def fingerprint(self) -> str:
        """Of the endpoint, the model's name, the prompt, and the form of a request where it is not the plain one.

        It is final once the judge is `ready`. What stands behind a name may change without notice.
        """
        identity = [VERSION, self.url, self.model, SYSTEM, MAX_REPLY, *self.form.differs()]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    @property
    def spent(self) -> float:
        """What was spent so far."""
        return self.purse.spent

    def ready(self) -> "ApiJudge":
        """Ask the one question that settles the form of all requests; an answer that was had before is not asked for again.

        Raises:
            UserError: in the endpoint's own words, if it refuses every form; or if its reply cannot be read.
        """
        for form in FORMS:
            if self.replies.get(key_of(self._probe(form))) is not None:
                self.form = form
                return self
        self._stop.clear()
        while True:
            request = self._probe(self.form)
            try:
                text = self._caller.call(key_of(request), request, self.form.limit).text
            except RefusedError as error:
                if (simpler := self.form.without(error.words)) is None:
                    raise self._unusable(f"a refusal of the simplest request, {error}") from None
                self.form = simpler
                continue
            except (LostError, NonsenseError) as error:
                raise self._unusable(str(error)) from None
            if self.form.limit == MAX_REPLY and thinks(text):
                self.form = replace(self.form, limit=THINKING)
                continue
            if reason := read_reply(text).reason:
                lines = " and ".join(f"{name}: yes or no" for name in NOTIONS)
                received = f"to whether Paris is the capital of France: {self._caller.said(reason)}"
                raise UserError(f"a judge that replies {lines}, at {self.url}", received, "Choose another model as judge.")
            self._keep(key_of(request), text)
            return self

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Judgement]:
        """One judgement per answer, in order; replies that were had before are not asked for again.

        Raises:
            UserError: if the inputs are not equally long, the cap would be passed, or the endpoint cannot be used. What was
                answered stays answered: the same call again asks only for the rest.
        """
        requests = self._requests(questions, answers, references)
        missing = self._missing(requests)
        self.purse.afford(self._most(missing))
        refused = self._ask(missing)
        judgements = []
        for request in requests:
            reply = None if request is None else self.replies.get(key_of(request))
            if request is None:
                judgements.append(unscored("the question or the answer is empty"))
            elif reply is None:
                judgements.append(unscored(refused[key_of(request)]))
            else:
                judgements.append(read_reply(reply))
        return judgements

    def outlook(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> tuple[int, float]:
        """How many requests judging these answers takes, those answered before left out, and the most they can cost."""
        missing = self._missing(self._requests(questions, answers, references))
        return len(missing), self._most(missing)

    def estimate(self, questions: Sequence[str], references: Sequence[References], answer_tokens: int, times: int) -> float:
        """The most it can cost to judge so many answers to each question, each of so many tokens at most."""
        # A token is seldom more than four bytes of text, so four letters stand for one.
        answer = "xxxx" * answer_tokens
        requests = [self._request(q, answer, r) for q, r in zip(questions, references, strict=True)]
        return self._most({str(number): request for number, request in enumerate(requests)}) * times

    def _most(self, requests: dict[str, JsonObject]) -> float:
        """The most that requests can cost, with the one that is asked again where an endpoint is doubted."""
        with_probe = [*requests.values(), *([self._probe(self.form)] if requests else [])]
        return sum(self.purse.bound(request, self.form.limit) for request in with_probe)

    def _requests(
        self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]
    ) -> list[JsonObject | None]:
        """A request for each answer, in order; none where there is nothing to ask about."""
        check_lengths(questions, answers, references)
        return [
            self._request(*inputs) if inputs[0].strip() and inputs[1].strip() else None
            for inputs in zip(questions, answers, references, strict=True)
        ]

    def _missing(self, requests: Sequence[JsonObject | None]) -> dict[str, JsonObject]:
        """The requests that were never answered, each once, by key."""
        by_key = {key_of(request): request for request in requests if request is not None}
        return {name: request for name, request in by_key.items() if self.replies.get(name) is None}

    def _request(self, question: str, answer: str, references: References) -> JsonObject:
        return self.form.request(self.url, self.model, question, answer, references)

    def _probe(self, form: RequestForm) -> JsonObject:
        return form.request(self.url, self.model, *PROBE, PROBE_SIDES)

    def _ask(self, missing: dict[str, JsonObject]) -> dict[str, str]:
        """Have all missing replies put into the cache; the reasons of those that the endpoint refuses for good."""
        if not missing:
            return {}
        refused: dict[str, str] = {}
        self._stop.clear()
        self._doubted = False

        def ask(name: str, request: JsonObject) -> None:
            if self._stop.is_set():
                return
            try:
                text, reason = self._reply_or_reason(name, request)
                if text is None:
                    refused[name] = reason
                    self._still_there()
                else:
                    self._keep(name, text)
            except UserError:
                self._stop.set()  # at once: whoever waits for all of them may be late
                raise

        with ThreadPoolExecutor(self.endpoint.workers) as pool:
            pending = {pool.submit(ask, name, request) for name, request in missing.items()}
            try:
                while pending:
                    finished, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                    for future in finished:
                        future.result()
                    self._progress(1 - len(pending) / len(missing))
            except UserError:
                self.replies.forget(key_of(self._probe(self.form)))  # so that the next run finds out before it trains
                raise
            finally:
                self._stop.set()  # one that cannot go on stops all, and so does an interruption
        return refused

    def _still_there(self) -> None:
        """Ask the simplest question once more, since a request was refused: is it the request, or the endpoint?

        Raises:
            UserError: in the endpoint's own words, if it refuses that, too.
        """
        with self._doubt:
            if self._doubted or self._stop.is_set():
                return
            self._doubted = True
            try:
                self._caller.call(secrets.token_hex(16), self._probe(self.form), self.form.limit)
            except (RefusedError, LostError, NonsenseError) as error:
                if not self._stop.is_set():
                    raise self._unusable(f"no answer to a question that it answered before: {error}") from None

    def _reply_or_reason(self, name: str, request: JsonObject) -> tuple[str | None, str]:
        """A reply, or why this one request is refused while others may not be.

        Raises:
            UserError: if the endpoint cannot be used at all.
        """
        try:
            return self._caller.call(name, request, self.form.limit).text, ""
        except NonsenseError as error:
            return None, f"the endpoint talks nonsense: {error}"
        except RefusedError as error:
            if error.status not in SINGLE:
                raise self._unusable(str(error)) from None
            return None, f"the endpoint refuses the request: {error}"
        except LostError as error:
            if not self._stop.is_set():
                raise self._unusable(str(error)) from None
            return None, str(error)

    def _keep(self, name: str, text: str) -> None:
        """Keep a reply without the key, if it had it in it; what it says of the answer stays."""
        stripped, judgement = self._key.struck(text), read_reply(text)
        if stripped != text and repr(read_reply(stripped)) != repr(judgement):
            verdicts = zip(NOTIONS, (judgement.truth, judgement.info), strict=True)
            stripped = "\n".join(f"{notion}: {'yes' if value else 'no'}" for notion, value in verdicts if value in (0.0, 1.0))
        self.replies.put(name, stripped)

    def _unusable(self, received: str) -> UserError:
        return UserError(
            f"an endpoint that answers, at {self.url}",
            received,
            "Check address, model, key and quota, then run the same command again: what was answered is kept.",
        )
