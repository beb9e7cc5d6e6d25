"""A request that is sent until it is answered, refused, or given up, with its price set aside while it is under way."""

import email.utils
import json
import random
import threading
import time

from locus.judges.purse import Endpoint, Purse
from locus.judges.reading import MAX_REPLY, Reply, one_line, received, words
from locus.judges.secret import Secret
from locus.judges.wire import Answer, LostError, NonsenseError, Wire
from locus.records.base import JsonObject

PATIENCE = 10  # times the timeout, where thinking comes first
LONGEST_WAIT, FIRST_WAIT, WAITS = 120.0, 0.5, 8.0  # seconds between tries: as an endpoint wishes, at first, at most
AGAIN = (408, 409, 425, 429)  # and whatever is an error of the server


class RefusedError(Exception):
    """The endpoint answers, and refuses.

    Args:
        status: of HTTP.
        words: the endpoint's own, whole.
        message: what is shown of them.
    """

    def __init__(self, status: int, words: str, message: str):
        super().__init__(f"status {status}: {message}")
        self.status, self.words = status, words


class Caller:
    """Sends requests to one endpoint; threads may share it.

    Args:
        endpoint: its timeout, retries, cap and prices.
        base: its URL.
        secret: its key.
    """

    def __init__(self, endpoint: Endpoint, base: str, secret: Secret):
        self.endpoint, self.purse, self.stop = endpoint, Purse(endpoint), threading.Event()
        self._url, self._secret = f"{base.rstrip('/')}/chat/completions", secret
        self._wire = Wire(secret, self.stop)

    def call(self, name: str, request: JsonObject, limit: int) -> Reply:
        """What is replied to a request.

        Args:
            name: of the request, the same whenever it is sent.
            request: what is sent, and the address it is for.
            limit: tokens that the reply may have.

        Raises:
            RefusedError: if the endpoint refuses, however often it is asked.
            LostError: if no whole answer came, however often it was asked, or all is given up.
            NonsenseError: if the answer is none.
            UserError: if the cap would be passed, or the endpoint sends elsewhere.
        """
        body = json.dumps({field: value for field, value in request.items() if field != "url"}).encode()
        most = self.purse.bound(request, limit)
        for tried in range(self.endpoint.retries + 1):
            wished = ""
            try:
                answer = self._post(name, body, most, limit)
            except LostError as error:
                trouble: Exception = LostError(self.said(str(error)), error.sent)
            else:
                if isinstance(answer, Reply):
                    return answer
                error_words, wished = words(answer.body), answer.retry_after
                trouble = RefusedError(answer.status, error_words, self.said(error_words))
                if answer.status not in AGAIN and answer.status < 500:
                    break
            if tried < self.endpoint.retries and self.stop.wait(_pause(tried, wished)):
                break
        raise trouble

    def _post(self, name: str, body: bytes, most: float, limit: int) -> Reply | Answer:
        """A reply, or an answer that is none, paid for."""
        # An endpoint that knows idempotency keys will not bill twice what it answered to a process that was killed.
        seconds = self.endpoint.timeout * (1 if limit == MAX_REPLY else PATIENCE)
        self.purse.hold(most)
        cost = most  # of an answer that says nothing of its price
        try:
            answer = self._wire.post(self._url, body, name, seconds)
            if not 200 <= answer.status < 300:
                cost = 0.0
                return answer
            reply = received(answer.body, limit)
            if reply.read is not None and reply.written is not None:
                cost = self.purse.price(reply.read, reply.written)
            return reply
        except LostError as error:
            cost = most if error.sent else 0.0
            raise
        except (NonsenseError, ValueError) as error:
            raise NonsenseError(self.said(str(error))) from None
        finally:
            self.purse.settle(most, cost)

    def said(self, text: str) -> str:
        """An endpoint's own words, without the key, which a hostile or careless one may echo, and fit to be shown."""
        return one_line(self._secret.struck(text))


def _pause(tried: int, wished: str) -> float:
    """Seconds before a request is tried again: as many as the endpoint wishes, within reason."""
    try:
        seconds = float(wished)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(wished).timestamp() - time.time()
        except (ValueError, OverflowError):
            seconds = -1.0
    if 0 <= seconds <= LONGEST_WAIT:
        return seconds
    return min(WAITS, FIRST_WAIT * 2.0**tried) * (1 - random.random() / 4)
