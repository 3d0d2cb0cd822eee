"""The page of a live analysis, for the browser of this computer's user alone.

It listens on the loopback interface. Whoever asks must know a token that is made anew for each run:
the page has it in its address, and sends it along with each request in a header. A cookie would not
do: browsers send those of 127.0.0.1 to every program that listens on any port of it, and take all
of them for one site. Nor can another site's page make a browser send that header. The name that
was asked for must be the loopback's own, else a foreign name that is made to lead here (DNS
rebinding) would make this server part of that name's site.
"""

import hmac
import json
import secrets
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ._session import Shown
from ._slots import Latest

_LOOPBACK = "127.0.0.1"
_CLIENTS = 16  # connections at a time
_IDLE = 30.0  # s that a connection may keep silent
_PATIENCE = 5.0  # s that a request waits for a newer picture
_PAGE = Path(__file__).with_name("page.html")
# Nothing is fetched but from here, nothing embeds the page, and its address goes nowhere.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveServer:
    """Serves the page while it is open, as a context manager."""

    def __init__(self, shown: Latest[Shown], title: str, *, port: int = 0):
        """Listens, but answers nobody yet.

        Args:
            shown: pictures, as JPEG, with their figures.
            title: of the page; plain text.
            port: 0 takes a free one.
        Raises:
            OSError: another program has the port.
        """
        self.token = secrets.token_urlsafe(32)
        try:
            self._server = _Server((_LOOPBACK, port), _Handler)
        except OSError as error:
            reason = (
                f"port {port} of {_LOOPBACK}: cannot be had ({error.strerror}); leave the port "
                "out, which takes a free one, or name another"
            )
            raise OSError(error.errno, reason) from error
        self._server.shown, self._server.title = shown, title
        self._server.token = self.token.encode()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """The page's address, with the token."""
        return f"http://{_LOOPBACK}:{self.port}/?token={self.token}"

    def __enter__(self) -> "LiveServer":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread for each connection, of which there are few."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _CLIENTS
    shown: Latest[Shown]
    title: str
    token: bytes

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]):
        self._room = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "jaxface", ""
    timeout = _IDLE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """The page, or its next picture; to others 403, whatever they ask for."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/":
            token = query.get("token", [""])[0]
        else:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = hmac.compare_digest(token.encode(errors="replace"), self.server.token)
        if not (self._is_ours(page=url.path == "/") and known):
            self._refuse(403)
        elif url.path == "/":
            self._page()
        elif url.path == "/next":
            self._next(query.get("after", ["0"])[0])
        else:
            self._refuse(404)

    def _is_ours(self, *, page: bool) -> bool:
        """Whether it was sent to this server by name, and by no other site's page."""
        names = {f"{name}:{self.server.server_address[1]}" for name in (_LOOPBACK, "localhost")}
        if self.headers.get_all("Host", []) not in [[name] for name in names]:
            return False
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in names}:
            return False
        # Browsers say who asks; a link that is followed from elsewhere may lead to the page.
        site, mode = (self.headers.get(f"Sec-Fetch-{name}") for name in ("Site", "Mode"))
        return site in (None, "same-origin", "none") or (page and mode == "navigate")

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        text = _PAGE.read_text(encoding="utf-8")
        # JSON in a script; "<" would be the one sign that HTML looks for there.
        title = json.dumps(self.server.title).replace("<", "\\u003c")
        text = text.replace("{{nonce}}", nonce).replace("{{title}}", title)
        self._answer(
            200,
            text.encode(),
            "text/html; charset=utf-8",
            {"Content-Security-Policy": _POLICY.format(nonce=nonce)},
        )

    def _next(self, after: str) -> None:
        """The latest picture, once it is newer than the one that the page has.

        Length of the figures in 4 bytes, figures as JSON, JPEG. A page that is slow asks late,
        and gets what is the latest then.
        """
        if not (after.isascii() and after.isdigit() and len(after) < 16):
            self._refuse(400)
            return
        latest = self.server.shown.get(int(after), _PATIENCE)
        if latest is None and not self.server.shown.closed:
            self._refuse(204)
            return
        if latest is None:
            figures, picture, captured = {"ended": True}, b"", time.perf_counter()
        else:
            number, (picture, found, captured) = latest
            figures = {"number": number, **found.values()}
        text = json.dumps(figures, allow_nan=False).encode()
        body = struct.pack(">I", len(text)) + text + picture
        age = 1000 * (time.perf_counter() - captured)
        self._answer(200, body, "application/octet-stream", {"Jaxface-Age": f"{age:.2f}"})

    def _answer(self, status: int, body: bytes, kind: str, more: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in (_HEADERS | more).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int) -> None:
        self.close_connection |= status == 403  # strangers keep no room for themselves
        words = {204: "", 400: "bad request", 403: "forbidden", 404: "not found"}
        self._answer(status, words.get(status, "refused").encode(), "text/plain", {})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """For what is not HTTP, or another method: no more words than needed."""
        self.close_connection = True
        self._refuse(code)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: requests hold the token."""
