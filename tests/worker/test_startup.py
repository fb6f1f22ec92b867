"""What a container runs, as real processes."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from worker import startup
from worker.healthcheck import healthy, main


@pytest.fixture
def replaced(monkeypatch):
    """What the process would have become."""
    lines = []
    monkeypatch.setattr(startup.os, "execv", lambda path, line: lines.append(line))
    monkeypatch.setenv("AVATAR_WORKER_DEVICE", "cpu")
    return lines


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ([], ["-m", "worker", "serve"]),
        (["serve"], ["-m", "worker", "serve"]),
        (["check", "--json"], ["-m", "worker", "check", "--json"]),
    ],
)
def test_it_becomes_the_worker(replaced, arguments, end):
    startup.main(arguments)
    (line,) = replaced
    assert line[0] == sys.executable
    assert line[-len(end) :] == end


def test_it_becomes_the_runpod_handler(replaced, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(startup, "RUNPOD_HANDLER", tmp_path / "runpod_handler.py")
    assert startup.main(["runpod"]) == 1
    assert "runpod_handler.py does not exist" in capsys.readouterr().err
    (tmp_path / "runpod_handler.py").touch()
    startup.main(["runpod"])
    assert replaced[0][-1] == str(tmp_path / "runpod_handler.py")


@pytest.mark.parametrize("command", ["serve", "runpod"])
def test_a_machine_that_does_not_fit_starts_nothing(replaced, monkeypatch, capsys, command):
    monkeypatch.setenv("AVATAR_WORKER_ENGINE", "ditto")
    monkeypatch.setenv("AVATAR_WORKER_DEVICE", "cuda:77")
    monkeypatch.setattr(startup, "RUNPOD_HANDLER", startup.Path(__file__))
    assert startup.main([command]) == 1
    assert not replaced
    assert "AVATAR_WORKER_DEVICE=cuda:77" in capsys.readouterr().err


def test_a_setting_that_cannot_be_used_starts_nothing(replaced, monkeypatch, capsys):
    monkeypatch.setenv("AVATAR_WORKER_HTTP_PORT", "many")
    assert startup.main(["serve"]) != 0
    assert not replaced
    assert "AVATAR_WORKER_HTTP_PORT" in capsys.readouterr().err


def test_the_whole_life_of_a_container(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = {"HTTP_PORT": str(port), "WS_PORT": "0", "CANVAS__SCALE": "0.25", "MAX_SESSIONS": "1"}
    environment = os.environ | {f"AVATAR_WORKER_{name}": value for name, value in ours.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.startup"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while ping(port) != 200:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "not ready after two minutes"
            time.sleep(0.2)
        monkeypatch.setenv("AVATAR_WORKER_HTTP_PORT", str(port))
        assert main() == 0
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "codecs" in output
    assert "listening" in output
    assert main() == 1


@pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (503, False), (404, False)])
def test_health_is_what_ping_says(status, well):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/ping" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert healthy("127.0.0.1", server.server_port) is well
        finally:
            server.shutdown()
            thread.join()


def ping(port: int) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()
