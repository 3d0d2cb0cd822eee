"""The server of a live page: who is answered, what with, and that nobody slow holds others up."""

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pytest

from jaxface.output import OPENFACE_UNITS
from jaxface.run.live import Figures, Latest, LiveServer, Shown

_FIGURES = Figures(
    frame=3,
    time=0.1,
    success=True,
    confidence=0.9,
    place=(1.0, 2.0, 600.0),
    turn=(1.0, -2.0, 0.0),
    gaze=(3.0, 4.0),
    units=tuple((name, 1.5, True) for name in OPENFACE_UNITS.intensity),
    captured_rate=30.0,
    shown_rate=29.0,
    captured=3,
    shown=2,
    dropped=1,
    delay=20.0,
    slow_delay=30.0,
)
_NONE: Mapping[str, str] = {}
_TITLE = "a</script><b>.mp4"


class _Served(NamedTuple):
    server: LiveServer
    shown: Latest[Shown]

    def ask(
        self, path: str, headers: Mapping[str, str] = _NONE, *, method: str = "GET"
    ) -> "_Answer":
        """Asks as a program that sends these headers alone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        found = _Answer(answer.status, answer.headers, answer.read())
        connection.close()
        return found

    def next(self, after: int = 0, headers: Mapping[str, str] = _NONE) -> "_Answer":
        return self.ask(f"/next?after={after}", {"Authorization": self.bearer} | dict(headers))

    def page(self, headers: Mapping[str, str] = _NONE) -> "_Answer":
        return self.ask(f"/?token={self.server.token}", headers)

    @property
    def bearer(self) -> str:
        return f"Bearer {self.server.token}"


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def parts(self) -> tuple[dict, bytes]:
        length = int.from_bytes(self.body[:4], "big")
        return json.loads(self.body[4 : 4 + length]), self.body[4 + length :]


@pytest.fixture
def served() -> Iterator[_Served]:
    shown: Latest[Shown] = Latest()
    shown.put(Shown(b"JPEG", _FIGURES, time.perf_counter()))
    with LiveServer(shown, _TITLE) as server:
        yield _Served(server, shown)
        shown.close()


def test_page_and_pictures(served):
    page = served.page()
    assert page.status == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    (nonce,) = re.findall(r"script-src 'nonce-([\w-]+)'", page.headers["Content-Security-Policy"])
    text = page.body.decode()
    assert text.count(f'nonce="{nonce}"') == 2 and nonce not in served.page().body.decode()
    assert served.server.token not in text and "<b>" not in text  # the title is a clip's name
    assert json.dumps(_TITLE).replace("<", "\\u003c") in text
    answer = served.next()
    figures, picture = answer.parts()
    assert answer.status == 200 and picture == b"JPEG"
    assert (figures["number"], figures["dropped"]) == (1, 1)
    assert figures["units"][0] == ["AU01", 1.5, True]
    assert 0 <= float(answer.headers["Jaxface-Age"]) < 60000


def test_answers_may_not_be_kept_or_embedded(served):
    for answer in (served.page(), served.next(), served.ask("/")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.headers["Server"] is None and answer.headers["Set-Cookie"] is None
    policy = served.page().headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy


@pytest.mark.parametrize("token", ["", "x", "{}x", "x{}", "{}%00", "%C3%A4", "{} {}"])
def test_wrong_tokens_are_refused(served, token):
    wrong = token.format(*[served.server.token] * 2)
    for answer in (
        served.next(0, {"Authorization": f"Bearer {wrong}"}),
        served.next(0, {"Authorization": f"Bearer {wrong[:-1]}\xe4"}),  # no ASCII
        served.ask(f"/?token={wrong.replace(' ', '%20')}"),
    ):
        assert answer.status == 403 and answer.body == b"forbidden"
        assert answer.headers["Connection"] == "close"  # strangers hold none of the few
    assert served.next(0, {"Authorization": f"Basic {served.server.token}"}).status == 403


def test_missing_tokens_are_refused(served):
    token = served.server.token
    for path in ("/", "/next", "/next?after=0", "/favicon.ico", "/nothing", "//", "/?token"):
        assert served.ask(path).status == 403, path
    # The page's way does not serve for pictures, nor the other way round.
    assert served.ask(f"/next?after=0&token={token}").status == 403
    assert served.ask("/", {"Authorization": served.bearer}).status == 403
    assert served.ask("/nothing", {"Authorization": served.bearer}).status == 404


def test_other_origins_and_names_are_refused(served):
    port = served.server.port
    for headers in (
        {"Host": f"evil.example:{port}"},  # DNS rebinding
        {"Host": "127.0.0.1"},
        {"Host": f"127.0.0.1:{port + 1}"},
        {"Host": f"127.0.0.1.evil.example:{port}"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this computer
    ):
        assert served.next(0, headers).status == 403, headers
        assert served.page(headers).status == 403, headers
    for headers in (
        {"Origin": f"http://127.0.0.1:{port}"},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert served.next(0, headers).status == 200, headers
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}  # a link
    assert served.page(followed).status == 200 and served.next(0, followed).status == 403


def test_it_listens_on_the_loopback_alone(served):
    address = [
        info[4][0]
        for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not str(info[4][0]).startswith("127.")
    ]
    for host in address:  # none where the computer has no other
        with pytest.raises(OSError):
            socket.create_connection((str(host), served.server.port), 2).close()
    socket.create_connection(("127.0.0.1", served.server.port), 2).close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_refused(served, method):
    answer = served.ask("/next?after=0", {"Authorization": served.bearer}, method=method)
    assert answer.status in (405, 501) and b"JPEG" not in answer.body
    assert answer.headers["Cache-Control"] == "no-store"


def test_nonsense_is_answered_and_no_harm_done(served):
    for after in ("-1", "1e3", "x", "9" * 40, "%00", "%D9%A3"):  # the last is a digit, in Arabic
        path = f"/next?after={after}"
        assert served.ask(path, {"Authorization": served.bearer}).status == 400
    with socket.create_connection(("127.0.0.1", served.server.port), 5) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        assert b"JPEG" not in connection.recv(1000)
    assert served.next().status == 200


def test_nothing_is_logged(served, capfd):
    served.page()
    served.ask("/?token=wrong")
    served.ask("/", method="POST")
    assert capfd.readouterr() == ("", "")


def test_an_answer_waits_for_something_newer(served):
    newer = Shown(b"NEWER", _FIGURES, time.perf_counter())
    threading.Timer(0.2, served.shown.put, (newer,)).start()
    began = time.perf_counter()
    assert served.next(1).parts()[1] == b"NEWER"
    assert time.perf_counter() - began > 0.15


def test_slow_clients_skip_and_hold_nobody_up(served):
    """One that does not read its answer, of more bytes than sockets hold, meets no queue."""
    large = np.random.default_rng(0).bytes(8 << 20)
    served.shown.put(Shown(large, _FIGURES, time.perf_counter()))
    request = (
        f"GET /next?after=0 HTTP/1.1\r\nHost: 127.0.0.1:{served.server.port}\r\n"
        f"Authorization: Bearer {served.server.token}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.server.port), 5) as slow:
        slow.sendall(request.encode())
        time.sleep(0.1)
        for number in range(3, 13):
            served.shown.put(Shown(b"%d" % number, _FIGURES, time.perf_counter()))
            figures, picture = served.next(number - 1).parts()
            assert (figures["number"], picture) == (number, b"%d" % number)
        read = slow.recv(1 << 16)
        while len(read) < 8 << 20:
            read += slow.recv(1 << 20)
        assert b"200" in read[:20]
    assert served.next(2).parts()[0]["number"] == 12  # what came between is gone


def test_there_are_few_connections_at_a_time(served):
    held = [socket.create_connection(("127.0.0.1", served.server.port), 5) for _ in range(16)]
    time.sleep(0.2)
    with pytest.raises((OSError, http.client.HTTPException)):
        served.next()
    for connection in held:
        connection.close()
    until = time.perf_counter() + 5
    while True:
        try:
            assert served.next().status == 200
            return
        except (OSError, http.client.HTTPException):
            assert time.perf_counter() < until
            time.sleep(0.05)


def test_the_end_is_told(served):
    served.shown.close()
    assert served.next(0).parts()[1] == b"JPEG"  # the last picture, to those who lack it
    assert served.next(1).parts() == ({"ended": True}, b"")


def test_ports_are_free_or_refused(served):
    with pytest.raises(OSError, match=f"port {served.server.port} of 127.0.0.1: cannot be had"):
        LiveServer(served.shown, "", port=served.server.port)
