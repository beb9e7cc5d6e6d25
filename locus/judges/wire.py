"""One request to one endpoint and what comes back: bounded in bytes and in seconds, and sent to no other origin.

The limit in seconds is of the whole exchange, so an answer that drips for ever ends with it. Nothing is unpacked: an encoding
that was not asked for is refused. A redirect is followed within the endpoint's own origin alone, since key and questions go
along.
"""

import functools
import http.client
import io
import socket
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit

from locus import __version__
from locus.errors import UserError
from locus.judges.secret import Secret

MOST = 1 << 20  # bytes of an answer
HEADERS = 1 << 18  # bytes of everything that comes before and after it
HOPS = 5
TICK = 0.5  # seconds after which a waiting request looks whether it is still wanted
MOVED = (301, 302, 307, 308)


class LostError(Exception):
    """No whole answer came: out of time, or the connection broke.

    Args:
        what: what happened.
        sent: whether the endpoint may have had the request, and so may bill it.
    """

    def __init__(self, what: str, sent: bool):
        super().__init__(what)
        self.sent = sent


class NonsenseError(Exception):
    """What came is no answer, and asking again would bring no other."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        retry_after: the header of that name, or "".
        body: at most MOST bytes.
    """

    status: int
    retry_after: str
    body: bytes


class Wire:
    """Sends requests to endpoints with a key; several threads may share it.

    Args:
        secret: the key, sent as a bearer token.
        stop: once set, what is under way is given up.
    """

    def __init__(self, secret: Secret, stop: threading.Event):
        self._secret, self._stop = secret, stop
        self._tls = ssl.create_default_context()

    def post(self, url: str, body: bytes, name: str, seconds: float) -> Answer:
        """Send a body of JSON.

        Args:
            url: where to.
            body: what.
            name: of the request, for an endpoint that knows idempotency keys.
            seconds: for all of it, redirects included.

        Raises:
            LostError: if no whole answer came in time.
            NonsenseError: if what came is too large, encoded, or no HTTP.
            UserError: for a redirect to another origin, or too many.
        """
        until, address = time.monotonic() + seconds, url
        for _ in range(HOPS + 1):
            answer, target = self._once(address, body, name, until)
            if answer.status not in MOVED or not target:
                return answer
            address = _followed(url, address, target)
        raise UserError(f"an endpoint that answers, at {url}", f"more than {HOPS} redirects", "Check the address.")

    def _once(self, url: str, body: bytes, name: str, until: float) -> tuple[Answer, str]:
        """The answer to one request, and where it says to go instead."""
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {self._secret.reveal()}",
            "Content-Type": "application/json",
            "Idempotency-Key": name,
            "User-Agent": f"locus/{__version__}",
        }
        plain, secure = _Plain(until, self._stop), _Secure(until, self._stop, self._tls)
        opener = urllib.request.build_opener(plain, secure, _AsItIs)
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with opener.open(request, timeout=max(0.001, until - time.monotonic())) as response:
                return _read_answer(response), response.headers.get("Location", "")
        except URLError as error:  # before the request was out
            raise LostError(f"no connection ({error.reason})", sent=False) from None
        except (TimeoutError, ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected, ssl.SSLError) as error:
            raise LostError(f"no whole answer ({str(error) or type(error).__name__})", sent=True) from None
        except (http.client.HTTPException, ValueError, OSError) as error:
            raise NonsenseError(f"no HTTP ({type(error).__name__}: {error})") from None


def _read_answer(response: http.client.HTTPResponse) -> Answer:
    """An answer with its body, read to the end.

    Raises:
        NonsenseError: if it is encoded or too large.
        LostError: if it breaks off.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise NonsenseError(f"an answer packed as {encoding!r}, which was not asked for")
    body = response.read(MOST + 1)
    if len(body) > MOST:
        raise NonsenseError(f"an answer of more than {MOST:,} bytes")
    if response.length:
        raise LostError("an answer that breaks off", sent=True)
    return Answer(response.status, response.headers.get("Retry-After", ""), body)


def _followed(url: str, current: str, target: str) -> str:
    """Where a redirect leads.

    Raises:
        UserError: if that is another origin than the endpoint's.
    """
    try:
        destination = urljoin(current, target)
        same_origin = origin(destination) == origin(url)
    except ValueError:
        same_origin, destination = False, target
    if same_origin:
        return destination
    listed = destination if len(destination) <= 120 else f"{destination[:120]}…"
    raise UserError(
        f"answers from {url} itself",
        f"a redirect to another origin, {listed!a}, where neither the key nor a question was sent",
        "If you trust that address, give it as the endpoint's.",
    )


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port.

    Raises:
        ValueError: if the address has no such parts.
    """
    address = urlsplit(url)
    return address.scheme, address.hostname or "", address.port or {"http": 80, "https": 443}.get(address.scheme, 0)


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Every status is an answer: what follows from it is decided elsewhere, redirects above all."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


class _Watched(io.RawIOBase):
    """What a socket receives, for so long, so many bytes of it, and while it is wanted."""

    def __init__(self, response: Any, connection: socket.socket, until: float, stop: threading.Event):
        self._response, self._socket, self._until, self._stop = response, connection, until, stop
        self._left = MOST + HEADERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            remaining = self._until - time.monotonic()
            if remaining <= 0 or self._stop.is_set():
                raise TimeoutError("given up" if self._stop.is_set() else "out of time")
            self._socket.settimeout(min(remaining, TICK))
            try:
                count = self._socket.recv_into(buffer)
            except TimeoutError:
                continue
            self._left -= count
            if self._left < 0:
                raise NonsenseError(f"an answer of more than {MOST:,} bytes")
            return count

    def close(self) -> None:
        self._response.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response that is read through a watch."""

    def __init__(self, connection: socket.socket, *args: Any, until: float, stop: threading.Event, **more: Any):
        super().__init__(connection, *args, **more)
        self.fp = io.BufferedReader(_Watched(self.fp.detach(), connection, until, stop))


class _Plain(urllib.request.HTTPHandler):
    """Opens connections whose responses are watched."""

    def __init__(self, until: float, stop: threading.Event):
        super().__init__()
        self._reader = functools.partial(_Response, until=until, stop=stop)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(functools.partial(_connected, http.client.HTTPConnection, self._reader), req)


class _Secure(urllib.request.HTTPSHandler):
    """The same, over TLS."""

    def __init__(self, until: float, stop: threading.Event, context: ssl.SSLContext):
        super().__init__(context=context)
        self._reader, self._tls = functools.partial(_Response, until=until, stop=stop), context

    def https_open(self, req: urllib.request.Request) -> Any:
        connect = functools.partial(_connected, http.client.HTTPSConnection, self._reader)
        return self.do_open(connect, req, context=self._tls)


def _connected(kind: Any, reader: Any, host: str, **more: Any) -> http.client.HTTPConnection:
    connection: http.client.HTTPConnection = kind(host, **more)
    connection.response_class = reader
    return connection
