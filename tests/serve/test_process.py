"""The command as a process: what uvicorn alone would wait for, and how it ends."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from samrefine_rt.serve.connections import HEAD_SECONDS
from tests.serve.clients import IMAGE

pytestmark = pytest.mark.xdist_group("serve")


class Server:
    """A process and its port."""

    def __init__(self, log: Path):
        arguments = ("serve", "--bundle", "demo", "--port", "0", "--threads", "1", "-v")
        self.log = log.open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "samrefine_rt", *arguments, "--max-megabytes", "1"],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        said = re.search(r"http://127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        assert said is not None, log.read_text()
        self.port = int(said[1])

    def close(self) -> int:
        """Wait for the end of the process; its exit code."""
        assert self.process.stdout is not None
        code = self.process.wait(30)
        self.process.stdout.close()
        self.log.close()
        return code

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=HEAD_SECONDS + 20)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {} if body is None else {"content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        try:
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("serve") / "log")
    yield found
    found.process.kill()
    found.close()


def closed_after(connection: socket.socket, drip: bytes) -> float:
    """Seconds for which a server keeps a connection on which a byte comes every half second."""
    start = time.monotonic()
    connection.settimeout(0.5)
    for byte in drip:
        try:
            connection.sendall(bytes([byte]))
            if connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start


def test_heads_that_drip_are_cut_and_others_are_answered(server: Server) -> None:
    slow = [server.connect() for _ in range(20)]
    for connection in slow[1:]:
        connection.sendall(b"POST /v1/label HTTP/1.1\r\n")
    assert server.ask("GET", "/health")[0] == 200
    assert closed_after(slow[0], b"GET / HTTP/1.1\r\nx-a: " + b"a" * 60) < HEAD_SECONDS + 5
    for connection in slow:
        connection.close()
    assert server.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize("head", [b"content-length: 2000000", b"transfer-encoding: chunked"])
def test_huge_bodies_are_refused(server: Server, head: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/label HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            + head
            + b"\r\n\r\n"
        )
        # The answer may be lost where the server closes while something is still sent
        with suppress(ConnectionResetError, BrokenPipeError):
            if b"chunked" in head:
                for _ in range(12):
                    connection.sendall(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 413")
    # By its header before any route, by what comes on its route
    route = b"/v1/label" if b"chunked" in head else b"other"
    assert b'route="%s",status="413"' % route in server.ask("GET", "/metrics")[1]


def test_work_of_a_client_that_left_is_stopped(server: Server) -> None:
    body = json.dumps({"image": IMAGE}).encode()
    for _ in range(8):
        connection = server.connect()
        connection.sendall(
            b"POST /v1/masks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        connection.close()
    assert server.ask("POST", "/v1/segment", {"image": IMAGE, "points": [[200, 150]]})[0] == 200
    end = time.monotonic() + 30
    while b"samrefine_queue_length 0.0" not in server.ask("GET", "/metrics")[1]:
        assert time.monotonic() < end
        time.sleep(0.1)
    server.log.flush()
    log = Path(server.log.name).read_text()
    assert '"status": 499' in log or '"status": 0' in log


def test_it_stops_in_order(tmp_path: Path) -> None:
    server = Server(tmp_path / "log")
    answers: list[int] = []
    asked = Thread(
        target=lambda: answers.append(server.ask("POST", "/v1/masks", {"image": IMAGE})[0])
    )
    asked.start()
    time.sleep(0.2)
    server.process.send_signal(signal.SIGTERM)
    assert server.close() == 0
    asked.join(30)
    assert answers == [200]
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()[1:]]
    assert any(entry.get("path") == "/v1/masks" and entry["status"] == 200 for entry in entries)
