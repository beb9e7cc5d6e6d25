"""Any OpenAI-compatible endpoint: asked many at a time, retried, paid for once, and never beyond the cap.

One question that everybody can answer is asked before anything else: what form of request the endpoint takes is settled by it,
and an endpoint that cannot be used is found out. The key comes from the environment, is sent to the endpoint, and is shown and
written nowhere.
"""

import hashlib
import json
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Self

from locus.errors import UserError
from locus.judges.base import Judgement, References, Sides
from locus.judges.calls import Caller, RefusedError
from locus.judges.purse import Endpoint as Endpoint  # where it is looked for
from locus.judges.reading import FORMS, MAX_REPLY, THINKING, Inquiry, Message, RequestForm, thinks
from locus.judges.replies import Replies, key_of
from locus.judges.secret import key
from locus.judges.wire import LostError, NonsenseError
from locus.records.base import JsonObject

VERSION = "api/1"
SINGLE = (400, 409, 413, 422)  # refusals that may be of one request alone


class Asker(ABC):
    """Asks an endpoint about answers.

    Args:
        model: as the endpoint names it.
        endpoint: where, how fast, and at what cost.
        cache: file in which replies are kept.
        inquiry: what it is asked, and how replies are read.
        progress: told the share of requests answered.

    Raises:
        UserError: if there is no key or it is none, a cap comes without prices, or the cache cannot be used.
    """

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        cache: Path,
        inquiry: Inquiry,
        progress: Callable[[float], None] = lambda share: None,
    ):
        self.inquiry = inquiry
        self.url, self.model, self.endpoint, self.form, self._progress = endpoint.base(), model, endpoint, RequestForm(), progress
        self._key = key()
        self._caller = Caller(endpoint, self.url, self._key)
        self.purse, self._stop = self._caller.purse, self._caller.stop
        self.replies = Replies(cache)
        self._doubt, self._doubted = threading.Lock(), False

    @property
    def asked(self) -> str:
        """SHA-256 (hex) of endpoint, model's name, what is asked, and the form of a request where it is not the plain one.

        It is final once the judge is `ready`. What stands behind a name may change without notice.
        """
        identity = [VERSION, self.url, self.model, *self.inquiry.identity, *self.form.differs()]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    @property
    def spent(self) -> float:
        """What was spent so far."""
        return self.purse.spent

    def ready(self) -> Self:
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
            if self.form.limit == MAX_REPLY and thinks(text, self.inquiry.read):
                self.form = replace(self.form, limit=THINKING)
                continue
            if reason := self.inquiry.read(text).reason:
                received = f"to {self.inquiry.about}: {self._caller.said(reason)}"
                wanted = f"a judge that replies {self.inquiry.expected}, at {self.url}"
                raise UserError(wanted, received, "Choose another model as judge.")
            self._keep(key_of(request), text)
            return self

    def readings(self, chats: Sequence[Sequence[Message] | None]) -> list[Judgement | Sides | None]:
        """What is replied to each chat, in order, as it is read; None where there is none. What was had is not asked again.

        Raises:
            UserError: if the cap would be passed, or the endpoint cannot be used. What was answered stays answered: the same call
                again asks only for the rest.
        """
        requests = [None if chat is None else self._request(chat) for chat in chats]
        missing = self._missing(requests)
        self.purse.afford(self._most(missing))
        refused = self._ask(missing)
        return [None if request is None else self._reading(key_of(request), refused) for request in requests]

    def _reading(self, name: str, refused: dict[str, str]) -> Judgement | Sides:
        """A reply as it is read, or why there is none."""
        reply = self.replies.get(name)
        return self.inquiry.unread(refused[name]) if reply is None else self.inquiry.read(reply)

    def cost_of(self, chats: Sequence[Sequence[Message] | None]) -> tuple[int, float]:
        """How many requests these chats take, those answered before left out, and the most they can cost."""
        missing = self._missing([None if chat is None else self._request(chat) for chat in chats])
        return len(missing), self._most(missing)

    @abstractmethod
    def chats(self, question: str, answer: str, references: References) -> list[list[Message]]:
        """What is asked about one answer, which is not empty."""

    def estimate(self, questions: Sequence[str], references: Sequence[References], answer_tokens: int, times: int) -> float:
        """The most it can cost to judge so many answers to each question, each of so many tokens at most."""
        # A token is seldom more than four bytes of text, so four letters stand for one.
        answer = "xxxx" * answer_tokens
        chats = [chat for pair in zip(questions, references, strict=True) for chat in self.chats(pair[0], answer, pair[1])]
        return self._most({str(number): self._request(chat) for number, chat in enumerate(chats)}) * times

    def _most(self, requests: dict[str, JsonObject]) -> float:
        """The most that requests can cost, with the one that is asked again where an endpoint is doubted."""
        with_probe = [*requests.values(), *([self._probe(self.form)] if requests else [])]
        return sum(self.purse.bound(request, self.form.limit) for request in with_probe)

    def _missing(self, requests: Sequence[JsonObject | None]) -> dict[str, JsonObject]:
        """The requests that were never answered, each once, by key."""
        by_key = {key_of(request): request for request in requests if request is not None}
        return {name: request for name, request in by_key.items() if self.replies.get(name) is None}

    def _request(self, chat: Sequence[Message]) -> JsonObject:
        return self.form.request(self.url, self.model, chat)

    def _probe(self, form: RequestForm) -> JsonObject:
        return form.request(self.url, self.model, self.inquiry.probe)

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
        stripped, judgement = self._key.struck(text), self.inquiry.read(text)
        if stripped != text and repr(self.inquiry.read(stripped)) != repr(judgement):
            stripped = self.inquiry.rewritten(judgement)
        self.replies.put(name, stripped)

    def _unusable(self, received: str) -> UserError:
        return UserError(
            f"an endpoint that answers, at {self.url}",
            received,
            "Check address, model, key and quota, then run the same command again: what was answered is kept.",
        )
