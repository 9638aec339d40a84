"""A real server in a process of its own: load, a queue that is full, signals, and the folder on disk."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from jaxsode.cli import main
from jaxsode.inspection import Inspector


@contextmanager
def _serving(folder, *options):
    """A process that serves it, and its address."""
    command = [sys.executable, "-m", "jaxsode.cli", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            found = re.search(r" at (http://\S+/) ", line)
            assert found, line + process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


def _post(address, body, path="predict"):
    try:
        with urlopen(Request(address + path, data=body, method="POST"), timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def _text(address):
    with urlopen(address, timeout=60) as answer:
        return answer.read().decode()


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def bodies(served):
    """Each picture's file, and its score in memory."""
    files = [path.read_bytes() for path in sorted((served / "new").glob("*.png"))]
    pixels = []
    for path in sorted((served / "new").glob("*.png")):
        with Image.open(path) as image:
            pixels.append(np.array(image))
    scores = Inspector.load(served / "d")(np.stack(pixels)).scores
    return list(zip(files, map(float, scores), strict=True))


def _right(answer, score):
    return answer[0]["score"] == pytest.approx(score, rel=1e-4)


def test_under_load_all_are_answered_and_a_signal_finishes_what_is_in(served, bodies, tmp_path):
    before, state = _digests(served / "d"), tmp_path / "state.json"
    with _serving(served / "d", "--state", str(state)) as (process, address), ThreadPoolExecutor(16) as pool:

        def ask(i):
            body, score = bodies[i % len(bodies)]
            status, answer = _post(address, body)
            return status == 200 and _right(answer, score)

        assert all(pool.map(ask, range(160)))
        assert json.loads(state.read_text())["drift"]["seen"] <= 160
        rest = threading.Event()
        asked = [pool.submit(_slowly, address, *bodies[i % len(bodies)], rest) for i in range(6)]
        while "jaxsode_queue_pictures 6\n" not in _text(f"{address}metrics"):
            assert not any(each.done() for each in asked)
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "SIGTERM: finishing what came in\n"
        rest.set()
        assert all(each.result(30) for each in asked)
        assert process.wait(30) == 0
        said = process.stderr.read()
    assert "166 pictures judged; ended" in said
    assert json.loads(state.read_text())["drift"]["seen"] == 166
    assert _digests(served / "d") == before


def _slowly(address, body, score, rest):
    """Send half of a request, and the rest once it is told to."""
    host, port = re.search(r"//(\S+):(\d+)/", address).groups()
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[: len(body) // 2])
        assert rest.wait(30)
        connection.sendall(body[len(body) // 2 :])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    return b" 200 " in head.splitlines()[0] and _right(json.loads(content), score)


def test_a_queue_of_two_answers_what_it_accepted_and_refuses_the_rest(served, bodies, tmp_path):
    before = _digests(served / "d")
    with _serving(served / "d", "--queue=2", "--batch-size=2") as (process, address):
        together = threading.Barrier(12)

        def ask(i):
            body, score = bodies[i % len(bodies)]
            together.wait(20)
            status, answer = _post(address, body)
            return status if status != 200 or _right(answer, score) else "wrong"

        with ThreadPoolExecutor(12) as pool:
            found = Counter(status for _ in range(3) for status in pool.map(ask, range(12)))
        assert set(found) == {200, 503}
        assert found[200] >= 6  # two each time
        status, _ = _post(address, bodies[0][0])
        assert status == 200  # and it goes on
        killing = [threading.Thread(target=_ignored, args=(address, bodies[0][0])) for _ in range(2)]
        for each in killing:
            each.start()
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
        for each in killing:
            each.join()
    assert _digests(served / "d") == before


def _ignored(address, body):
    try:
        _post(address, body)
    except OSError:
        return


def test_mistakes_are_told_in_a_line(served, capsys, tmp_path, monkeypatch):
    folder = str(served / "d")

    def fails(*given, says):
        assert main(["serve", *given]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        fails(folder, "--port", port, says=f"127.0.0.1, port {port}, can't be listened at")
    fails(str(tmp_path), says="no detector")
    fails(folder, "--queue=0", says="--queue 0 must be above 0")
    fails(folder, "--port=70000", says="--port 70000")
    fails(folder, "--certificate=x.pem", says="both --certificate and --key")
    (tmp_path / "x.pem").write_text("no key")
    pem = str(tmp_path / "x.pem")
    fails(folder, "--certificate", pem, "--key", pem, says="no certificate and its key")
    fails(folder, "--certificate", pem, "--key", f"{pem}y", says="x.pemy is no file")
    fails(folder, "--state", f"{folder}/state.json", says="in the detector's folder")
    (tmp_path / "state.json").write_text("{")
    fails(folder, "--state", str(tmp_path / "state.json"), says="not a service's state, or damaged")
    deep = tmp_path / "deep"

    def run(server, listening):
        server.started = True
        (deep / "state.json").unlink()
        deep.rmdir()
        deep.write_text("in the way")

    with monkeypatch.context() as patch:
        patch.setattr("uvicorn.Server.run", run)
        assert main(["serve", folder, "--port=0", "--state", str(deep / "state.json")]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert "state.json can't be written" in last
    monkeypatch.setattr("jaxsode.commands.serve.util.find_spec", lambda name: None)
    fails(folder, says="pip install 'jaxsode[serve]'")
