"""What `requests` does not promise: a deadline over a whole call, and whether anything was sent.

`requests` bounds each read of a socket, so an answer that comes a byte at a time never times out;
and its exceptions cannot tell a reset during the TLS handshake from one after the request. Both are
only known at the socket, so the connections here are our own.

Imported by the client on its first call, because `requests` is slow to import.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: More than any documented answer needs, and little enough to hold in memory.
MAX_BODY_BYTES = 1024 * 1024
CONNECT_TIMEOUT = 3.0


@dataclass
class Exchange:
    """One request on the wire: how long it may take, and how far it got."""

    deadline: float
    timeout: float
    max_bytes: int = MAX_BODY_BYTES
    sent: bool = False

    def remaining(self) -> float:
        """Return the seconds that the next wait may take. Raises TimeoutError if none are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the call passed")
        return min(self.timeout, left)


_exchange: ContextVar[Exchange] = ContextVar("examplary_exchange")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: requests.structures.CaseInsensitiveDict[str]
    body: bytes = field(repr=False)


class TransportError(Exception):
    """The request failed before a whole answer was there.

    `final`: asking again would come to the same. `answered`: there is an answer, that we do not
    take. Not chained to its cause: the frames of a transport error hold the Authorization header.
    """

    def __init__(
        self, reason: str, *, timeout: bool = False, final: bool = False, answered: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timeout = timeout
        self.final = final
        self.answered = answered


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket for as long as the exchange may still take."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_exchange.get().remaining())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock))


class _Observed(HTTPConnection):
    """Keeps the deadline while it connects, and notes when the first byte of a request goes out,
    which is after any TLS handshake."""

    response_class = _DeadlineResponse

    def _new_conn(self) -> socket.socket:
        """Try each address of the host for as long as is left; urllib3 lets each of them take the
        whole time."""
        name = self._dns_host
        found = socket.getaddrinfo(name, self.port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
        while True:
            self._dns_host = addresses.pop(0)
            self.timeout = min(CONNECT_TIMEOUT, _exchange.get().remaining())
            try:
                return super()._new_conn()
            except urllib3.exceptions.HTTPError:
                if not addresses:
                    raise
            finally:
                # It is also what the certificate has to be for.
                self._dns_host = name

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _exchange.get().sent = True
        super().send(data)


class _TLSConnection(_Observed, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Observed


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def __init__(self, *, tls: bool, pool_size: int) -> None:
        self._tls = tls
        super().__init__(pool_connections=1, pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        if self._tls:
            # One context for all connections: loading the CA bundle costs more than the handshake.
            kwargs["ssl_context"] = ssl.create_default_context(cafile=certifi.where())
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave verification to the context, which requires certificates and host names."""


class BearerAuth(AuthBase):
    """Keeps the key out of the variables that an error report shows."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class Transport:
    """A pool of connections to one origin: no cookies, no redirects, nothing from the environment.

    An adapter without a `requests.Session`, which would read `.netrc`, keep cookies, and read the
    whole body of a redirect that it was told not to follow. Safe to share between threads; not
    across a fork.
    """

    def __init__(self, origin: str, *, user_agent: str, pool_size: int) -> None:
        self._origin = origin
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self._adapter = _Adapter(tls=origin.startswith("https:"), pool_size=pool_size)
        # It logs whole paths at DEBUG, and the ids in ours open sessions.
        logging.getLogger("urllib3.connectionpool").addFilter(_is_not_ours)

    def send(
        self,
        exchange: Exchange,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        auth: AuthBase | None = None,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Answer:
        """Send one request and read its whole answer. Raises TransportError."""
        if not url.startswith(f"{self._origin}/"):
            raise TransportError("the address is of another origin")
        with _during(exchange):
            failure = None
            try:
                request = requests.Request(
                    method, url, {**self._headers, **headers}, auth=auth, params=params, data=data
                ).prepare()
                timeout = (min(CONNECT_TIMEOUT, exchange.remaining()), exchange.timeout)
                with self._adapter.send(request, stream=True, timeout=timeout) as response:
                    return _read(response, exchange.max_bytes)
            except TransportError as error:
                failure = error
            except _FAILURES as error:
                failure = _describe(error)
        raise failure

    def close(self) -> None:
        self._adapter.close()


def _is_not_ours(record: logging.LogRecord) -> bool:
    return _exchange.get(None) is None


@contextmanager
def _during(exchange: Exchange) -> Iterator[None]:
    token = _exchange.set(exchange)
    try:
        yield
    finally:
        _exchange.reset(token)


def _read(response: requests.Response, max_bytes: int) -> Answer:
    if response.status_code < 200:
        # An interim answer taken for the final one: the real one would be read by the next call.
        response.raw.close()
        raise TransportError(f"an interim answer ({response.status_code}) came as the final one")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        response.raw.close()
        raise TransportError("it is compressed, which was not asked for", final=True, answered=True)
    body = response.raw.read(max_bytes + 1, decode_content=False)
    if len(body) > max_bytes:
        response.raw.close()
        raise TransportError(f"it is longer than {max_bytes} bytes", final=True, answered=True)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != len(body) and response.request.method != "HEAD":
        response.raw.close()
        raise TransportError("the answer broke off")
    return Answer(response.status_code, response.headers, body)


def _describe(error: Exception) -> TransportError:
    """Say what happened without quoting the error, whose text can hold the URL and the key."""
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return TransportError("the server's certificate is not valid", final=True)
    for kinds, reason in _REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return TransportError(reason, timeout=TimeoutError in kinds)
    return TransportError("the connection broke")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """requests wraps urllib3's errors, which wrap the socket's, as their args or their reason."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


# All that is known to be raised for a bad connection or a bad answer.
_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)

_REASONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((socket.gaierror,), "the host name does not resolve"),
    ((urllib3.exceptions.NewConnectionError,), "the connection was refused"),
    (
        (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError),
        "no answer came in time",
    ),
)
