"""Where a judge is asked and what that may cost: prices, the cap, and an account that no request can overdraw.

Before a request is sent the most that it can cost is set aside; what it did cost is known when its answer is there. A request
that was lost on the way may have been billed, and counts in full.
"""

import math
import os
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from locus.errors import UserError
from locus.judges.secret import KEYS
from locus.records.base import JsonObject

DEFAULT_URL = "https://api.openai.com/v1"
MESSAGE_TOKENS = 16  # what chat formats add to a message
ROUNDING = 1e-9  # relative, of sums taken in another order


@dataclass(frozen=True)
class Endpoint:
    """Where a judge is asked, and what that may cost.

    Attributes:
        url: base URL; OPENAI_BASE_URL, or OpenAI's, where None.
        cap: the most that one audit or evaluation may cost, in the unit of `prices`; no limit where None.
        prices: of a million tokens read, and of a million written.
        workers: requests at a time.
        timeout: seconds until a request counts as lost, ten times as many for an endpoint that thinks first.
        retries: of a request that was lost, refused for haste, or met an error of the server; the wait doubles each time.
    """

    url: str | None = None
    cap: float | None = None
    prices: tuple[float, float] = (0.0, 0.0)
    workers: int = 8
    timeout: float = 60.0
    retries: int = 6

    def base(self) -> str:
        """The base URL.

        Raises:
            UserError: if it is none, would carry a secret into the plan, or cap and prices cannot be held against one another.
        """
        if not all(math.isfinite(price) and price >= 0 for price in self.prices):
            raise UserError("prices of 0 or more of a million tokens", str(list(self.prices)), "Give them as [READ, WRITTEN].")
        if self.cap is not None and not (math.isfinite(self.cap) and self.cap >= 0):
            raise UserError("a spending cap of 0 or more", str(self.cap), "Give an amount, or none for no limit.")
        if self.cap is not None and not any(self.prices):
            remedy = "Give prices of a million tokens read and written."
            raise UserError("the endpoint's prices beside a spending cap", "a cap alone", remedy)
        url = self.url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        if not _plain(url):
            raise UserError(
                "a base URL such as https://host/v1, without a password or a query",
                f"one that begins {url[:8]!r}",
                f"Give the key as {KEYS[0]}: the address is written into the run's plan.",
            )
        return url


def _plain(url: str) -> bool:
    """Whether an address has scheme, host and path, and nothing else."""
    try:
        address = urlsplit(url)
        odd = address.port == 0 or not address.hostname  # a port that is none is an error only when it is looked at
    except ValueError:
        return False
    clean = all("!" <= char <= "~" for char in url)
    return clean and not odd and address.scheme in ("http", "https") and not any(mark in url for mark in "@?#\\")


class Purse:
    """An account of what was spent, with what is set aside for requests that are under way; threads may share it.

    Args:
        endpoint: with cap and prices.
    """

    def __init__(self, endpoint: Endpoint):
        self.cap, self.prices = endpoint.cap, endpoint.prices
        self.spent = self._held = 0.0
        self._lock = threading.Lock()

    def price(self, read: int, written: int) -> float:
        """What so many tokens cost."""
        return (read * self.prices[0] + written * self.prices[1]) / 1e6

    def bound(self, request: JsonObject, limit: int) -> float:
        """The most a request can cost.

        A token for every two bytes is more than any tokenizer makes of plain English; where text is not that, as in other
        scripts or in what a broken model says, it is a token a byte at most.
        """
        messages = request["messages"]
        texts = [str(one["content"]) for one in messages if isinstance(one, dict)] if isinstance(messages, list) else [""]
        plain, _, answer = texts[-1].rpartition("\n")
        tokens = sum(map(_tokens, [*texts[:-1], plain])) + len(answer.encode()) + MESSAGE_TOKENS * len(texts)
        return self.price(tokens, limit)

    def afford(self, more: float) -> None:
        """Refuse what may cost more than is left.

        Raises:
            UserError: saying what is left, and what was wanted.
        """
        if self.cap is not None and self.spent + self._held + more > self.cap * (1 + ROUNDING):
            raise UserError(
                f"at most {self.cap:g} to be spent on judging",
                f"{self.spent:.4g} spent, and requests that may cost {self._held + more:.4g}",
                "Raise the cap, or judge fewer answers; what was answered is kept and costs nothing again.",
            )

    def hold(self, most: float) -> None:
        """Set aside what a request can cost.

        Raises:
            UserError: if that is more than is left.
        """
        with self._lock:
            self.afford(most)
            self._held += most

    def settle(self, most: float, cost: float) -> None:
        """Put down what a request did cost, for which `most` was set aside."""
        with self._lock:
            self._held = max(0.0, self._held - most)
            self.spent += cost


def _tokens(text: str) -> int:
    """The most tokens that a text of a prompt is."""
    return len(text.encode()) - sum(map(str.isascii, text)) // 2
