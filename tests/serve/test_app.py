"""Each address, without a network: what predict gives, limits, and what is refused."""

import asyncio
import base64
import csv
import dataclasses
import io
import re

import numpy as np
import own_pictures
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from PIL import Image

from jaxsode.cli import main
from jaxsode.inspection import Inspector
from jaxsode.serve.app import PAGE, Limits, Service, app
from jaxsode.serve.state import Watch
from jaxsode.serve.uploads import Refused, bodies


@pytest.fixture(scope="module")
def inspector(served):
    return Inspector.load(served / "d")


@pytest.fixture(scope="module")
def service(inspector):
    return Service(
        inspector,
        Limits(batch_size=4, queue=6, body_bytes=300_000, pixels=1_000_000),
        Watch(inspector.calibration),
    )


@pytest.fixture(scope="module")
def client(service):
    with TestClient(app(service)) as client:
        yield client


def _files(served):
    return sorted((served / "new").glob("*.png"))


def _form(*paths):
    return [("pictures", (path.name, path.read_bytes())) for path in paths]


def test_it_gives_what_predict_gives(served, client, tmp_path):
    files = _files(served)
    assert main(["predict", str(served / "d"), *map(str, files), "-o", str(tmp_path / "out")]) == 0
    with open(tmp_path / "out" / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    got = client.post("/predict", files=_form(*files)).json()
    got += [client.post("/predict", content=path.read_bytes()).json()[0] for path in files]
    for found, row in zip(got, rows * 2, strict=True):
        assert found["score"] == pytest.approx(float(row["score"]), rel=1e-4)
        assert found["p_value"] == pytest.approx(float(row["p_value"]))
        assert found["decision"] == row["decision"]
        assert len(found["regions"]) == row["regions"].count('"x"')
    assert {found["decision"] for found in got} == {"good", "defective"}
    for path, row in zip(files, rows, strict=True):
        answer = client.post("/predict?overlay=1", files=_form(path))
        assert answer.headers["content-type"] == "image/png"
        with (
            Image.open(io.BytesIO(answer.content)) as ours,
            Image.open(tmp_path / "out" / row["overlay"]) as theirs,
        ):
            apart = np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max(-1)
            assert (apart > 2).mean() < 0.01  # a pixel of the contour may lie beside


def test_what_the_page_draws(served, client, inspector):
    path = _files(served)[0]
    (found,) = client.post("/predict?view=1", files=_form(path)).json()
    shown = np.frombuffer(base64.b64decode(found["map"]), "<f4").reshape(found["size"])
    with Image.open(path) as image:
        pixels = np.asarray(image)
    np.testing.assert_allclose(shown, inspector(pixels[None]).maps[0], rtol=1e-4)
    assert found["score"] == pytest.approx(float(shown.max()))
    assert found["aspect"] == pytest.approx(64 / 48)
    for name in ("prepared", "overlay"):
        assert found[name].startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(found["prepared"].partition(",")[2]))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert "drift" in found["drift"]


def test_what_is_known(client, inspector):
    found = client.get("/calibration").json()
    assert found["scores"] == sorted(map(float, inspector.calibration.scores))
    assert found["threshold"] == inspector.calibration.threshold
    health = client.get("/healthz").json()
    assert (health["status"], health["size"], health["k"]) == ("ok", [48, 64], 6)


def test_the_page_may_reach_nothing_but_its_service(client):
    answer = client.get("/")
    assert answer.text == PAGE.read_text(encoding="utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2
    addresses = set(re.findall(r"https?://[^\s\"')]+", answer.text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nothing is fetched from
    assert not re.search(r'\s(style|on[a-z]+)="', answer.text)
    assert client.get("/docs").status_code == 404


def _noise(side):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


REFUSED = {
    "nothing": ({"content": b""}, 400, "no picture"),
    "text": ({"content": b"good morning"}, 422, "not a picture"),
    "a torn picture": ({"content": _noise(40)[:900]}, 422, "cut short"),
    "too many pixels": ({"content": own_pictures.png_header(2000, 2000)}, 422, "more than max_pixels"),
    "a body too large": ({"content": bytes(400_000)}, 413, "more than 0.3 MB"),
    "a body too large, in chunks": ({"content": (bytes(50_000) for _ in range(8))}, 413, "more than 0.3 MB"),
    "a form of another kind": ({"data": {"a": "b"}}, 422, "not a picture|damaged"),
    "a form without files": (
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
        400, "no picture",
    ),
    "a form that is none": (
        {"content": b"--", "headers": {"content-type": "multipart/form-data"}}, 400, "form can't be read"
    ),
    "a form cut short": (
        {"content": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        400, "form|no picture",
    ),
    "a form without an end": (
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="p"; filename="a"\r\n\r\n' + _noise(9),
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
        400, "has no end",
    ),
    "a name of two lines": ({"files": [("p", ("a\nb.png", b"x"))]}, 422, "b.png"),
    "too many files": ({"files": [("p", ("a.png", _noise(4)))] * 7}, 400, "form can't be read"),
    "one bad of two": ({"files": [("p", ("a.png", _noise(9))), ("p", ("b.png", b"x"))]}, 422, "b.png"),
    "another site's page": (
        {"content": _noise(9), "headers": {"origin": "http://elsewhere.example"}}, 403, "not this service's"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_a_line(what, client, service):
    given, status, says = REFUSED[what]
    answer = client.post("/predict", **given)
    assert answer.status_code == status, answer.text
    assert re.search(says, answer.json()["error"]), answer.json()
    assert "\n" not in answer.json()["error"]
    assert service.places.taken == 0
    assert f'jaxsode_refused_total{{status="{status}"}}' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "address", "status", "says"),
    [
        ("get", "/nowhere", 404, "/nowhere: Not Found"),
        ("get", "/predict", 405, "Method Not Allowed"),
        ("post", "/predict?overlay=maybe", 400, "overlay=maybe"),
        ("get", "/openapi.json", 404, "Not Found"),
    ],
)
def test_another_address_is_answered_in_a_line_too(client, method, address, status, says):
    answer = getattr(client, method)(address)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_body_too_large_whose_end_has_come_is_not_waited_for():
    messages = [{"type": "http.request", "body": bytes(60), "more_body": more} for more in (True, False)]

    async def receive():
        return messages.pop(0)  # and an error beyond the end

    request = Request({"type": "http", "headers": [], "method": "POST"}, receive)
    with pytest.raises(Refused, match="the body has more"):
        asyncio.run(bodies(request, most_bytes=100, most_files=1))
    assert not messages


def test_several_pictures_make_no_overlay(served, client):
    answer = client.post("/predict?overlay=1", files=_form(*_files(served)[:2]))
    assert answer.status_code == 400
    assert "by itself" in answer.json()["error"]


def test_without_a_place_there_is_no_entry(served, client, service):
    service.places.take(5)
    try:
        assert client.post("/predict", files=_form(_files(served)[0])).status_code == 200
        answer = client.post("/predict", files=_form(*_files(served)[:2]))  # both or none
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert service.places.taken == 5
        service.places.take()
        assert client.post("/predict", files=_form(_files(served)[0])).status_code == 503
    finally:
        service.places.give(service.places.taken)


def test_figures(served, client):
    before = client.get("/metrics").text
    client.post("/predict", files=_form(*_files(served)))
    after = client.get("/metrics").text

    def value(text, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])

    names = [f'jaxsode_pictures_total{{decision="{kind}"}}' for kind in ("good", "defective")]
    more = [value(after, name) - value(before, name) for name in names]
    assert sum(more) == 6
    assert min(more) > 0
    assert value(after, "jaxsode_request_seconds_count") == value(before, "jaxsode_request_seconds_count") + 1
    assert value(after, "jaxsode_queue_limit") == 6
    assert value(after, "process_resident_memory_bytes") > 1e7


def test_without_a_threshold_there_is_a_score(served, inspector):
    alone = dataclasses.replace(inspector, calibration=None, why_no_threshold="there is none")
    with TestClient(app(Service(alone, Limits(batch_size=1), None))) as client:
        (found,) = client.post("/predict?view=1", files=_form(_files(served)[0])).json()
        assert found["score"] > 0
        assert (found["threshold"], found["decision"], found["p_value"], found["drift"]) == (None,) * 4
        assert client.get("/calibration").json()["why_no_threshold"] == "there is none"
        assert client.post("/predict?overlay=1", files=_form(_files(served)[0])).status_code == 200


def test_what_has_no_score_is_said(served, inspector, monkeypatch):
    service = Service(inspector, Limits(batch_size=1), Watch(inspector.calibration))

    def nothing(self, maps):
        return np.full(len(maps), np.nan, np.float32)

    with TestClient(app(service)) as client:
        monkeypatch.setattr(Inspector, "scores", nothing)
        answer = client.post("/predict", files=_form(_files(served)[0]))
        assert answer.status_code == 422
        assert "no finite score" in answer.json()["error"]
        assert service.watch.seen == 0


def test_a_state_that_cannot_be_written_costs_no_answer(served, inspector, tmp_path, monkeypatch):
    said = []
    (tmp_path / "deep").mkdir()
    watch = Watch(inspector.calibration, tmp_path / "deep" / "state.json")
    with TestClient(app(Service(inspector, Limits(batch_size=1), watch, said.append))) as client:
        with monkeypatch.context() as patch:
            patch.setattr("jaxsode.serve.state.EVERY_S", 0.0)
            (tmp_path / "deep" / "state.json").unlink()
            (tmp_path / "deep").rmdir()
            (tmp_path / "deep").write_text("in the way")
            answer = client.post("/predict", files=_form(_files(served)[0]))
        assert answer.status_code == 200
        assert said
        assert said[0].startswith("error: ")
        assert "can't be written" in said[0]
        (tmp_path / "deep").unlink()


def test_when_it_fails_inside_it_says_so_and_goes_on(served, inspector, monkeypatch):
    service = Service(inspector, Limits(batch_size=1), None)
    with TestClient(app(service), raise_server_exceptions=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Inspector, "of_maps", lambda self, maps: 1 / 0)
            answer = client.post("/predict", files=_form(_files(served)[0]))
            assert answer.status_code == 500
            assert "Traceback" not in answer.text
        assert service.places.taken == 0
        assert client.post("/predict", files=_form(_files(served)[0])).status_code == 200
