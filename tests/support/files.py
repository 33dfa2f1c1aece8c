"""Image files, and tables of them, as the tests of sources read them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data.errors import BadImage
from data.sources.decode import decode, read_size


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **options)
    return file.getvalue()


def decoded_or_refused(data: bytes) -> np.ndarray | None:
    """The image, of the size its header promised; None where it was refused. Anything else propagates."""
    try:
        image = decode(data)
    except BadImage as error:
        assert str(error)
        return None
    assert image.dtype == np.uint8 and image.shape == (*read_size(data), 3)
    return image


def picture(seed: int) -> np.ndarray:
    """A small image of noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*rng.integers(1, 9, 2), 3), np.uint8)


def put(path, seed: int = 0) -> None:
    """One image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, "PNG")


def names(source) -> list[str]:
    """Of all images, as people read them."""
    return [source.manifest.name(i) for i in range(len(source.manifest))]


def write(path, labels: list, first: int = 0, struct: bool = True, stored_names: list[str] | None = None) -> None:
    """A parquet file of so many pictures."""
    images = [encoded(picture(first + i)) for i in range(len(labels))]
    column = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)] if struct else images
    table = pa.table({"image": column, "label": labels})
    if stored_names:
        feature = {"info": {"features": {"label": {"names": stored_names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(feature)})
    pq.write_table(table, path, row_group_size=2)
