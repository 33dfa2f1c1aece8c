"""Image files, and tables of them, as the tests of sources read them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.test_decode import encoded


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*rng.integers(1, 9, 2), 3), np.uint8)


def put(path, seed: int = 0) -> None:
    """One image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, "PNG")


def names(source) -> list[str]:
    return [source.manifest.name(i) for i in range(len(source.manifest))]


def write(path, labels: list, first: int = 0, struct: bool = True, stored_names: list[str] | None = None) -> None:
    images = [encoded(picture(first + i)) for i in range(len(labels))]
    column = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)] if struct else images
    table = pa.table({"image": column, "label": labels})
    if stored_names:
        feature = {"info": {"features": {"label": {"names": stored_names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(feature)})
    pq.write_table(table, path, row_group_size=2)
