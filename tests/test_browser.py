"""Pages in a real headless browser: nothing is loaded, nothing runs, all is readable on a phone and in the dark."""

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.evaluation.html import escaped
from harness.evaluation.report import REPORT, report
from harness.evaluation.studies.findings import Published
from harness.run.folder import write_json
from tests.test_report import ODD, written

pytestmark = pytest.mark.slow
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
LIGHT, DARK = 1, 0  # of Chromium's `preferredColorScheme`
PHONE, DESK = 375, 1280  # pixels
LOOK = """<!doctype html><meta charset="utf-8"><body><script>
async function look(width) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800; frame.src = "PAGE";
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument, body = frame.contentWindow.getComputedStyle(page.body);
  const outside = frame.contentWindow.performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:"));
  return {
    width, wide: page.documentElement.scrollWidth, ink: body.color, paper: body.backgroundColor,
    pictures: page.images.length, broken: [...page.images].filter(i => !i.naturalWidth).length,
    said: [...page.querySelectorAll(".said")].map(e => e.textContent),
    loaded: outside.length, scripts: page.scripts.length, missing: [...page.querySelectorAll("nav a")].filter(
      a => !page.querySelector(a.getAttribute("href"))).length,
    unreachable: [...page.querySelectorAll(".scroll")].filter(
      s => s.scrollWidth > s.clientWidth && s.tabIndex < 0).length
  };
}
Promise.all([PHONE, DESK].map(look)).then(found => {
  const said = document.createElement("pre"); said.id = "found"; said.textContent = JSON.stringify(found);
  document.body.replaceChildren(said);
});
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, *arguments):
        pass


def seen(folder: Path, page: str, scheme: int) -> list[dict]:
    """What a browser shows of a page, on a phone and on a desk."""
    if BROWSER is None:
        pytest.skip("no Chromium and no Chrome is installed: nothing to look with")
    text = LOOK.replace("PAGE", page).replace("PHONE", str(PHONE)).replace("DESK", str(DESK))
    (folder / "look.html").write_text(text)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={folder}/browser",
    ]
    flags += [f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=20000", "--dump-dom"]
    try:
        address = f"http://127.0.0.1:{server.server_port}/look.html"
        done = subprocess.run([BROWSER, *flags, address], capture_output=True, text=True, timeout=180)
    finally:
        server.shutdown()
        server.server_close()
    assert "CONSOLE" not in done.stderr, done.stderr
    return json.loads(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)[1])


def contrast(ink: str, paper: str) -> float:
    """Contrast of two colors, 1 to 21.   [WCAG 2, relative luminance]"""
    lights = []
    for color in (ink, paper):
        c = np.array([int(n) for n in re.findall(r"\d+", color)[:3]]) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        lights.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(lights) / min(lights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report in which everything has a name that would do harm, with a wide picture and a wide table."""
    path = tmp_path_factory.mktemp("report")
    Image.fromarray(np.full((300, 1400, 3), 200, np.uint8)).save(path / "sweep.png")
    (path / "learning_curve.png").write_bytes((path / "sweep.png").read_bytes())
    write_json(path / "sweep.json", [{f"{name} {i}": i / 7 for i in range(12) for name in ODD[:2]}])
    told = written(ODD, path)
    told.findings["sweep"] = Published(ODD[0], ODD[1], "sweep.png", tuple(ODD))
    (path / REPORT).write_text(report(told), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme, dark", [(LIGHT, False), (DARK, True)])
def test_a_report_in_a_browser(folder, scheme, dark):
    for view in seen(folder, REPORT, scheme):
        assert view["wide"] <= view["width"], "the page itself scrolls to the side"
        assert view["pictures"] == 1 and view["broken"] == view["missing"] == view["unreachable"] == 0
        assert view["loaded"] == view["scripts"] == 0
        assert contrast(view["ink"], view["paper"]) >= 7
        assert (contrast("rgb(0, 0, 0)", view["paper"]) < 3) == dark


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_the_page_of_packing_in_a_browser(tmp_path, scheme):
    """It packs as it opens, and fits a phone."""
    for file in (Path(__file__).parent.parent / "docs" / "packing").iterdir():
        shutil.copy(file, tmp_path)
    for view in seen(tmp_path, "index.html", scheme):
        assert view["wide"] <= view["width"] and view["loaded"] == 2, "its two scripts alone"
        assert contrast(view["ink"], view["paper"]) >= 7
        left, right = (float(re.findall(r"padding ([\d.]+) %", said)[0]) for said in view["said"])
        assert 0 <= right < left < 50


def test_what_a_browser_runs_is_caught(folder):
    """The same page with one name as it came: the browser would run it, were it not for the policy of the page."""
    (folder / "harm.html").write_text((folder / REPORT).read_text().replace(escaped(ODD[0]), ODD[0], 1))
    with pytest.raises(AssertionError):
        assert all(view["scripts"] == 0 for view in seen(folder, "harm.html", LIGHT))
