"""A transport with two features that `requests` lacks: a total deadline, and a `sent` flag.

`requests` limits each read of a socket, so a response that arrives byte by byte never times out.
Its exceptions do not distinguish a reset during the TLS handshake from one after the request. Both
need access to the socket, so the connections here are subclasses.

The ids in a path are inserted when the request line is encoded. `requests`, urllib3 and their
instrumentation only get the template, because the id of an embed session is a secret.

Imported by the client on its first call, because `requests` is slow to import.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import get_environ_proxies

# Not from urllib3.connection, whose classes VCR.py replaces while it records.
from urllib3.connectionpool import (  # type: ignore[attr-defined]  # not exported
    HTTPConnection,
    HTTPConnectionPool,
    HTTPSConnection,
    HTTPSConnectionPool,
)

from django_examplary import clock
from django_examplary.client.errors import Answer, TransportError
from django_examplary.exceptions import ExamplaryConfigurationError, without_frames

CONNECT_TIMEOUT = 3.0
#: Seconds after which an idle connection is not reused. Firewalls drop idle connections silently,
#: and it is unknown whether a POST on such a connection has arrived.
MAX_IDLE = 15.0
# Other values of Content-Encoding, such as utf-8, are mistakes and do not change the body.
_COMPRESSIONS = ("br", "compress", "deflate", "gzip", "x-gzip", "zstd")


@dataclass
class Exchange:
    """One HTTP request: its deadline and its progress."""

    deadline: float
    timeout: float
    max_bytes: int
    #: The ids for the template of the path.
    ids: Mapping[str, str] = field(default_factory=dict, repr=False)
    sent: bool = False

    def remaining(self) -> float:
        """Return the seconds that the next wait may take. Raises TimeoutError if none are left."""
        left = self.deadline - clock.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the call passed")
        return min(self.timeout, left)


_exchange: ContextVar[Exchange] = ContextVar("examplary_exchange")


class _DeadlineReader(io.RawIOBase):
    """Read from a socket until the deadline of the exchange."""

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


class _ObservedConnection(HTTPConnection):
    """Respect the deadline while connecting, and record when the first byte of a request is sent.

    That is after the TLS handshake.
    """

    response_class = _DeadlineResponse
    #: The debug output of http.client would print the Authorization header and the ids.
    debuglevel = 0
    #: When the connection was last put back into the pool (`clock.monotonic()`).
    idle_since = 0.0

    def _new_conn(self) -> socket.socket:
        """Try each address of the host in the remaining time; urllib3 gives each the full time."""
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
                # The certificate is checked for this name.
                self._dns_host = name

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        finally:
            # Until now only a CONNECT was sent to the proxy, and nothing to the API.
            _exchange.get().sent = False

    def _encode_request(self, request: str) -> bytes:
        for name, value in _exchange.get().ids.items():
            request = request.replace(f"%7B{name}%7D", value)
        return request.encode("ascii")

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _exchange.get().sent = True
        super().send(data)


class _TLSConnection(_ObservedConnection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """Close connections that were idle for too long; they are reopened for the next request."""

    ConnectionCls = _ObservedConnection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if clock.monotonic() - connection.idle_since > MAX_IDLE:  # type: ignore[attr-defined]  # ours
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = clock.monotonic()
        super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def __init__(self, *, tls: bool, pool_size: int, ca_bundle: str) -> None:
        # Shared by all workspaces, because loading the CA bundle is slower than the handshake.
        self._context = {"ssl_context": _tls_context(ca_bundle, certifi.where())} if tls else {}
        super().__init__(pool_connections=1, pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= self._context
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, **self._context)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave verification to the context, which checks certificates and host names."""


@functools.lru_cache(maxsize=8)
def _tls_context(ca_bundle: str, default: str) -> ssl.SSLContext:
    if not ca_bundle:
        return ssl.create_default_context(cafile=default)
    try:
        folder = os.path.isdir(ca_bundle)
        context = ssl.create_default_context(
            cafile=None if folder else ca_bundle, capath=ca_bundle if folder else None
        )
        # Networks that inspect TLS use certificates without the key identifiers of RFC 5280.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
    except OSError as error:
        reason = "no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
    raise ExamplaryConfigurationError(
        f"The certificates in {ca_bundle!r} cannot be read: {reason}. Set EXAMPLARY_CA_BUNDLE to a "
        "PEM file; while it is not set, REQUESTS_CA_BUNDLE and SSL_CERT_FILE count."
    )


class BearerAuth(AuthBase):
    """Keep the key out of the variables that error reports show."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class Transport:
    """A pool of connections to one origin, without cookies, redirects and the environment.

    Uses an adapter without a `requests.Session`, which would read `.netrc`, store cookies, and read
    the whole body of a redirect that it does not follow. Threads may share it; processes may not.

    `ca_bundle` is a PEM file or a directory of certificates; empty: those of certifi. `proxy` is
    the URL of a proxy, or "environment" for that of HTTPS_PROXY and NO_PROXY. Raises
    ExamplaryConfigurationError for certificates that cannot be read.
    """

    def __init__(
        self,
        origin: str,
        *,
        user_agent: str,
        pool_size: int,
        ca_bundle: str = "",
        proxy: str = "",
    ) -> None:
        self._proxies = {"all": proxy} if proxy else {}
        if proxy == "environment":
            self._proxies = get_environ_proxies(origin)
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        tls = origin.startswith("https:")
        self._adapter = _Adapter(tls=tls, pool_size=pool_size, ca_bundle=ca_bundle)

    def send(self, exchange: Exchange, request: requests.Request) -> Answer:
        """Send one request and read its whole response. Raises TransportError."""
        token = _exchange.set(exchange)
        failure: BaseException
        try:
            request.headers = {**self._headers, **request.headers}
            timeout = (min(CONNECT_TIMEOUT, exchange.remaining()), exchange.timeout)
            with self._adapter.send(
                request.prepare(), stream=True, timeout=timeout, proxies=self._proxies
            ) as response:
                return _read_answer(response, exchange.max_bytes)
        except TransportError as error:
            failure = error
        except _FAILURES as error:
            failure = _transport_error(error)
        except BaseException as error:
            # For example the time limit of a task queue, which can interrupt any line. Error
            # collectors store the variables of frames, and the frames below contain the key.
            failure = without_frames(error)
        finally:
            _exchange.reset(token)
        raise failure

    def close(self) -> None:
        self._adapter.close()


def _read_answer(response: requests.Response, max_bytes: int) -> Answer:
    if response.status_code < 200:
        # urllib3 mistook an interim response for the final one, which the next call would read.
        response.raw.close()
        raise TransportError(
            f"an interim response ({response.status_code}) was received as the final one"
        )
    encoding = response.headers.get("Content-Encoding", "").lower()
    if any(each.strip() in _COMPRESSIONS for each in encoding.split(",")):
        response.raw.close()
        if response.status_code >= 300 or response.request.method == "DELETE":
            # The status suffices.
            return Answer(response.status_code, response.headers, b"")
        raise TransportError(
            f"it is compressed with {encoding}, which the request forbids",
            final=True,
            answered=True,
        )
    body = response.raw.read(max_bytes + 1, decode_content=False)
    if len(body) > max_bytes:
        response.raw.close()
        raise TransportError(f"it is longer than {max_bytes} bytes", final=True, answered=True)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != len(body) and response.request.method != "HEAD":
        response.raw.close()
        raise TransportError("the response is incomplete")
    return Answer(response.status_code, response.headers, body)


def _transport_error(error: Exception) -> TransportError:
    """Describe the failure without quoting the error, which can contain the URL and the key."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransportError(
                f"the server's certificate is not valid ({cause.verify_message}). If your network "
                "inspects TLS, set EXAMPLARY_CA_BUNDLE to the certificates of its authority",
                final=True,
            )
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes):
        # http.client has no specific class for this.
        refused = re.search(r"Tunnel connection failed: (\d{3})", " ".join(map(str, causes)))
        status = f" with status {refused[1]}" if refused else ""
        return TransportError(
            f"the proxy of EXAMPLARY_PROXY did not connect{status}", final=refused is not None
        )
    for kinds, reason in _DESCRIPTIONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return TransportError(reason, timeout=TimeoutError in kinds)
    return TransportError("the connection broke")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: requests wraps urllib3 errors, which wrap socket errors."""
    yield error
    inner = (*error.args, getattr(error, "reason", None), getattr(error, "original_error", None))
    for cause in inner:
        if isinstance(cause, BaseException):
            yield from _causes(cause)


# Every exception known to be raised for a bad connection or a bad response.
_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)

_DESCRIPTIONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((socket.gaierror,), "the host name does not resolve"),
    ((urllib3.exceptions.NewConnectionError,), "the connection was refused"),
    (
        (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError),
        "no response arrived in time",
    ),
    ((ConnectionError, ssl.SSLEOFError), "the connection broke"),
    ((ssl.SSLError,), "no TLS connection could be made; is the address one of https"),
    ((http.client.IncompleteRead,), "the response is incomplete"),
    ((http.client.HTTPException,), "the response is not valid HTTP"),
)
