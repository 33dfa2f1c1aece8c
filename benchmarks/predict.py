"""Prediction of a folder of image files: memory and images per second, whatever their number.

One line of JSON for each number of files: 100 and 10,000 JPEGs of mixed sizes, with rubbish among them, by the program
`predict.py` in a process of its own. Checked first: every file has its line, in order, and rubbish is named.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax.random as jr
import numpy as np
from PIL import Image

import navit_eqx as navit
from benchmarks.measure import arguments, report
from navit_eqx.config import Factorised
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.tasks.config import Classify

ROOT = Path(__file__).parent.parent
RUBBISH = 0.01  # share of files that are no images


def write_files(folder: Path, count: int) -> list[str]:
    """`count` files, photographs of 200 to 800 pixels a side and text files; their paths in order."""
    rng, some = np.random.default_rng(0), []
    for k in range(20):
        height, width = (int(n) for n in rng.integers(200, 800, 2))
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((width, height))
        noise.save(folder / f"pattern{k}.jpg")
        some.append((folder / f"pattern{k}.jpg").read_bytes())
        (folder / f"pattern{k}.jpg").unlink()
    for i in range(count):
        (folder / f"{i:06}.jpg").write_bytes(b"nothing" if rng.random() < RUBBISH else some[i % 20])
    return sorted(str(path) for path in folder.iterdir())


def save_model(folder: Path) -> None:
    """A small model of random parameters."""
    config = navit.ModelConfig(width=128, depth=4, heads=4, mlp_width=512, posembed=Factorised(64))
    info = navit.ModelInfo(tuple("abcdefghij"), Preprocessing(Area(128), row_tokens=128))
    model = navit.Model(config, Classify(classes=10), info, key=jr.key(0))
    navit.save_model(folder, model, info)


def measure(count: int) -> dict:
    """Seconds, CPU seconds and peak memory of one run."""
    with tempfile.TemporaryDirectory() as place:
        model, photos = Path(place) / "model", Path(place) / "photos"
        photos.mkdir()
        save_model(model)
        files = write_files(photos, count)
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, str(ROOT / "predict.py"), str(model), str(photos), "--json"]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = [json.loads(each) for each in said.stdout.splitlines()]
        assert [each["image"] for each in lines] == files
        bad = [each["image"] for each in lines if "error" in each]
        assert bad == [path for path in files if Path(path).read_bytes() == b"nothing"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "files": count,
        "set_aside": len(bad),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mib": after.ru_maxrss / 1024,  # of the largest child so far: counts are measured in growing order
    }


def main() -> None:
    parser = arguments(__doc__, "100 and 300 files", repeats=1)
    few, many = (measure(count) for count in ((100, 300) if parser.parse_args().quick else (100, 10_000)))
    for found in (few, many):
        report(benchmark="predict", **found)
    more = many["files"] - few["files"]
    report(
        benchmark="predict per file",
        images_per_second=more / (many["seconds"] - few["seconds"]),
        cpu_ms=1000 * (many["cpu_seconds"] - few["cpu_seconds"]) / more,
        mib_more=many["peak_mib"] - few["peak_mib"],
    )


if __name__ == "__main__":
    main()
