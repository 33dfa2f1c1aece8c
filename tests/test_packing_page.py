"""The packing of the interactive page is that of the reference, on a thousand random cases."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from reference.masks import same_image
from reference.packing import PACKINGS, padding
from reference.sampling.dropping import kept_tokens

PAGE = Path(__file__).parent.parent / "docs" / "packing"
NODE = shutil.which("node")
RUN = """
const packing = require(process.argv[1]);
const cases = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(cases.map(c => {
  const rows = packing.PACKINGS[c.rule](c.lengths, ...c.rest);
  return { rows, padding: rows.length ? packing.padding(c.lengths, rows, c.rest[0]) : 0,
           area: rows.length ? packing.attentionArea(c.lengths, rows, c.rest[0]) : 0,
           kept: c.lengths.map(n => packing.keptTokens(n, c.rate)) };
})));
"""


def cases(count: int) -> list[dict]:
    """Images, rows, slots, windows and rules at random; some without an image, some with images that fill a row."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        row_tokens = int(rng.integers(1, 40))
        lengths = rng.integers(1, row_tokens + 1, rng.integers(0, 30)).tolist()
        rule = ("first_fit", "best_fit", "exact_fit")[k % 3]
        more = [] if rule == "exact_fit" else [int(rng.integers(0, 4))]
        rest = [row_tokens, int(rng.integers(1, 7)), int(rng.integers(1, 12)), *more]
        found.append({"rule": rule, "lengths": lengths, "rest": rest, "rate": float(rng.random())})
    return found


def answers(asked: list[dict], script: Path = PAGE / "packing.js") -> list[dict]:
    """What the page's packer says."""
    if NODE is None:
        pytest.skip("no node is installed: nothing to run the page's packer with")
    done = subprocess.run(
        [NODE, "-e", RUN, script], input=json.dumps(asked), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def area(lengths: list[int], rows: list[list[int]], row_tokens: int) -> float:
    """Share of pairs under the masks of the rows."""
    pairs = 0
    for row in rows:
        pairs += same_image(np.repeat(np.arange(1, len(row) + 1), [lengths[i] for i in row])).sum()
    return pairs / (len(rows) * row_tokens**2)


def test_the_page_packs_as_the_reference_does():
    asked = cases(1000)
    for k, (case, got) in enumerate(zip(asked, answers(asked), strict=True)):
        lengths, (row_tokens, *_) = case["lengths"], case["rest"]
        rows = PACKINGS[case["rule"]](lengths, *case["rest"])
        assert got["rows"] == rows, case
        if rows:
            assert got["padding"] == pytest.approx(padding(lengths, rows, row_tokens), abs=1e-12)
            assert k % 10 or got["area"] == pytest.approx(area(lengths, rows, row_tokens), abs=1e-12)
        want = kept_tokens(np.array(lengths, int), np.full(len(lengths), case["rate"]))
        assert got["kept"] == want.tolist()


@pytest.mark.parametrize(
    "old, new",
    [
        ("chosen.length + 1 < known.length", "chosen.length + 1 <= known.length"),
        ("rows[r].length < rowImages", "true"),
        ("queued.length > misfits", "queued.length >= misfits"),
        ("prefer(free[r]) < prefer(free[best])", "prefer(free[r]) <= prefer(free[best])"),
        ("free => free", "free => -free"),
        ("const ahead = queue.slice(0, window)", "const ahead = queue.slice()"),
    ],
)
def test_another_packer_is_caught(tmp_path, old, new):
    text = (PAGE / "packing.js").read_text()
    assert text.count(old) == 1
    (tmp_path / "packing.js").write_text(text.replace(old, new))
    asked = cases(150)
    found = answers(asked, tmp_path / "packing.js")
    assert any(got["rows"] != PACKINGS[c["rule"]](c["lengths"], *c["rest"]) for c, got in zip(asked, found))


def test_the_page_loads_nothing_from_elsewhere_and_labels_its_controls():
    text = (PAGE / "index.html").read_text()
    assert re.findall(r'src="([^"]+)"', text) == ["packing.js", "page.js"]
    for target in re.findall(r'(?:src|href)="([^"#]+)"', text):
        assert (PAGE / target).exists(), target
    code = (PAGE / "page.js").read_text()
    assert not re.search(r"fetch\(|XMLHttpRequest|import\s|https?://(?!www\.w3\.org/2000/svg)", text + code)
    controls = re.findall(r"<(?:input|select|button)\b[^>]*>", text)
    labels = re.findall(r"<label\b.*?</label>", text, re.DOTALL)
    assert len(controls) == len(labels) and all(sum(c in label for c in controls) == 1 for label in labels)
    names = set(re.findall(r'id="([\w-]+)"', text))
    assert set(re.findall(r'\bat\("([\w-]+)"\)', code)) <= names
    assert set(re.findall(r'for="([\w-]+)"', text)) <= names
