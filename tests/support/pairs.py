"""The same pairs of images and captions, written in every layout that `Captions` reads."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.files import encoded, picture


class Pair(NamedTuple):
    """An image file and its captions."""

    name: str
    image: bytes
    captions: list[str]


def some_pairs(count: int = 7, first: int = 0) -> list[Pair]:
    """Different images with one to three captions each, some of them shared; in the order of their names."""
    texts = lambda i: [f"picture {i // 2}", f"ein Bild, Nr. {i}", "a 猫, or “cat”; maybe"][: 1 + i % 3]
    return [Pair(f"{i:03}.png", encoded(picture(first + i)), texts(i)) for i in range(count)]


def put_images(folder: Path, pairs: list[Pair]) -> None:
    """The files of the images."""
    folder.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        (folder / pair.name).write_bytes(pair.image)


def as_parquet(root: Path, pairs: list[Pair], part: str) -> None:
    columns = {"image": [{"bytes": p.image, "path": p.name} for p in pairs], "caption": [p.captions for p in pairs]}
    pq.write_table(pa.table(columns), root / f"{part}-00000-of-00001.parquet", row_group_size=2)


def as_parquet_rows(root: Path, pairs: list[Pair], part: str) -> None:
    """A row for each caption, in two files."""
    rows = [(p, c) for p in pairs for c in p.captions]
    for k, some in enumerate((rows[:4], rows[4:])):
        columns = {"text": [c for _, c in some], "image": [{"bytes": p.image, "path": p.name} for p, _ in some]}
        pq.write_table(pa.table(columns), root / f"{part}-0000{k}.parquet")


def as_csv(root: Path, pairs: list[Pair], part: str) -> None:
    put_images(root / part, pairs)
    with (root / part / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "caption"], *([p.name, c] for p in pairs[::-1] for c in p.captions)])


def as_tsv(root: Path, pairs: list[Pair], part: str) -> None:
    """One table for each split, at the root; images in a folder below."""
    put_images(root / "images" / part, pairs)
    lines = [f"{p.name}\t{json.dumps(c, ensure_ascii=False)}" for p in pairs for c in p.captions]
    lines = [line.replace('\\"', '""') for line in lines]
    (root / f"{part}_captions.tsv").write_text("\n".join(["filepath\ttitle", *lines]), encoding="utf-8")


def as_jsonl(root: Path, pairs: list[Pair], part: str) -> None:
    put_images(root / part, pairs)
    lines = [json.dumps({"file_name": p.name, "text": p.captions}) for p in pairs]
    (root / part / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")


def as_text(root: Path, pairs: list[Pair], part: str) -> None:
    put_images(root / part, pairs)
    for p in pairs:
        (root / part / p.name).with_suffix(".txt").write_text("\n".join(p.captions) + "\n", encoding="utf-8")


def as_coco(root: Path, pairs: list[Pair], part: str) -> None:
    put_images(root / f"{part}2017", pairs)
    (root / "annotations").mkdir(exist_ok=True)
    images = [{"id": 7 * i + 3, "file_name": p.name} for i, p in enumerate(pairs)]
    notes = [{"image_id": 7 * i + 3, "id": 0, "caption": f" {c} "} for i, p in enumerate(pairs) for c in p.captions]
    text = json.dumps({"images": images[::-1], "annotations": notes})
    (root / "annotations" / f"captions_{part}2017.json").write_text(text)


def tar_file(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def as_tar(root: Path, pairs: list[Pair], part: str) -> None:
    """Two shards; captions as lines of a text."""
    for k, some in enumerate((pairs[:3], pairs[3:])):
        members = [
            (name, data)
            for p in some
            for name, data in (
                (p.name, p.image),
                (p.name.replace("png", "json"), b'{"sha256": 3}'),
                (p.name.replace("png", "txt"), "\n".join(p.captions).encode()),
            )
        ]
        tar_file(root / f"{part}-00000{k}.tar", members)


def as_tar_json(root: Path, pairs: list[Pair], part: str) -> None:
    """Captions in a field of JSON, and names longer than a tar header holds."""
    members = [
        (name, data)
        for p in pairs
        for name, data in (
            (p.name.replace("png", "json"), json.dumps({"captions": p.captions}).encode()),
            (p.name, p.image),
            (p.name.replace("png", "cls"), b"4"),
        )
    ]
    (root / "data").mkdir(exist_ok=True)
    tar_file(root / "data" / f"{part}.tar", members)


WRITERS = {
    "parquet": as_parquet,
    "parquet-rows": as_parquet_rows,
    "csv": as_csv,
    "tsv": as_tsv,
    "jsonl": as_jsonl,
    "text": as_text,
    "coco": as_coco,
    "tar": as_tar,
    "tar-json": as_tar_json,
}
