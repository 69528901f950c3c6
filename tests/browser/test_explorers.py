"""The explorers in JupyterLab, in a real browser: a control is moved by hand, and the picture follows.

`make test-browser` installs Playwright's Python package into .venv and runs this. The browser is the machine's own
Chromium or Chrome: "chromium" of Debian and Ubuntu, or the path in the variable CHROMIUM. Screenshots go to
runs/screenshots.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs playwright")

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "runs" / "screenshots"
SETUP = """
from maskerlib.course import explorers
from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.masker.pretrained import scene_masker
from maskerlib.data.scenes.source import Scenes
scenes = Scenes("val", count=4, cache=None).batch(range(4))
names = [f"scene {i}" for i in range(4)]
trained = scene_masker("FIX")
"""
EXPLORERS = {
    "mask": "explorers.mask_explorer(scene_classifier(), scenes.images, names, steps=5)",
    "threshold": "explorers.threshold_explorer(scenes.images, {'FIX': trained(scenes.images)}, scenes.masks, scenes.boxes)",
    "layer": "explorers.layer_explorer(trained, scenes.images, names)",
}
NAMES = ("CHROMIUM", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
READY = """() => {
    const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const session = panel && panel.context && panel.context.isReady && panel.sessionContext;
    return session && session.isReady && session.session && session.session.kernel.status === 'idle';
}"""  # the notebook is open and its kernel waits for work
WAIT = 60_000  # milliseconds


def find_browser() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES[1:])), None)
    if found is None:
        pytest.fail("no Chromium or Chrome on the PATH; install one (apt-get install chromium) or set CHROMIUM to its path")
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab of its own, with one notebook an explorer; its address."""
    folder = tmp_path_factory.mktemp("lab")
    for name, line in EXPLORERS.items():
        cells = [nbformat.v4.new_code_cell(SETUP.strip()), nbformat.v4.new_code_cell(line)]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--port-retries=0", "--ip=127.0.0.1", "--expose-app-in-browser"]
    options += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--allow-root"]
    places = {f"JUPYTER_{kind}_DIR": str(folder / f".{kind.lower()}") for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
    with open(folder / "lab.log", "wb") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (folder / "lab.log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail("JupyterLab did not start: " + (folder / "lab.log").read_text()[-2000:])
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(lab: str, browser: "sync_api.Browser", request: pytest.FixtureRequest) -> Iterator["sync_api.Page"]:
    """The page of the notebook of one explorer, after all of it has run."""
    name = request.param
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.goto(f"{lab}/lab/tree/{name}.ipynb?reset")
    page.wait_for_function(READY, timeout=WAIT)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".maskerlib-explorer img", timeout=WAIT)
    wait_for_picture(page)
    try:
        yield page
    finally:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}-explorer.png")
        page.close()


def wait_for_picture(page: "sync_api.Page", other_than: str | None = None) -> str:
    """Wait until a picture is shown, another than the one given, and nothing is being drawn; the picture's address."""
    page.wait_for_function(
        """before => {
            const box = document.querySelector('.maskerlib-explorer');
            const image = box && box.querySelector('img');
            return image && image.complete && image.naturalWidth > 300 && image.src !== before
                && !box.textContent.includes('drawing');
        }""",
        arg=other_than,
        timeout=WAIT,
    )
    return page.locator(".maskerlib-explorer img").get_attribute("src")


def press(page: "sync_api.Page", label: str, key: str, times: int = 1) -> None:
    """Move the slider with this label by the keyboard."""
    row = page.locator(".maskerlib-explorer .widget-inline-hbox", has_text=label)
    row.locator(".noUi-handle").focus()
    for _ in range(times):
        page.keyboard.press(key)


def choose(page: "sync_api.Page", label: str, option: str) -> None:
    row = page.locator(".maskerlib-explorer .widget-inline-hbox", has_text=label)
    row.locator("select").select_option(label=option)


@pytest.mark.parametrize("opened", ["mask"], indirect=True)
def test_the_mask_follows_the_weights(opened):
    first = wait_for_picture(opened)
    press(opened, "smoothness", "ArrowRight")
    second = wait_for_picture(opened, first)
    choose(opened, "image", "scene 2")
    third = wait_for_picture(opened, second)
    press(opened, "masked-in", "Home")
    fourth = wait_for_picture(opened, third)
    press(opened, "masked-out", "Home")
    opened.wait_for_selector("text=both 0", timeout=WAIT)
    press(opened, "masked-out", "End")
    wait_for_picture(opened, fourth)


@pytest.mark.parametrize("opened", ["mask"], indirect=True)
def test_another_method_draws_its_map_and_greys_out_what_does_not_concern_it(opened):
    first = wait_for_picture(opened)
    choose(opened, "method", "grad-cam")
    second = wait_for_picture(opened, first)
    assert opened.locator(".maskerlib-explorer .noUi-target[disabled]").count() == 6
    choose(opened, "image", "scene 1")
    third = wait_for_picture(opened, second)
    choose(opened, "method", "optimise")
    wait_for_picture(opened, third)
    assert opened.locator(".maskerlib-explorer .noUi-target[disabled]").count() == 0


@pytest.mark.parametrize("opened", ["threshold"], indirect=True)
def test_the_box_follows_the_threshold(opened):
    first = wait_for_picture(opened)
    press(opened, "threshold", "ArrowRight", times=3)
    second = wait_for_picture(opened, first)
    choose(opened, "image", "image 3")
    wait_for_picture(opened, second)


@pytest.mark.parametrize("opened", ["layer"], indirect=True)
def test_the_activation_follows_the_layer_and_the_channel(opened):
    first = wait_for_picture(opened)
    press(opened, "channel", "ArrowRight")
    second = wait_for_picture(opened, first)
    choose(opened, "layer", "stage2")
    wait_for_picture(opened, second)
