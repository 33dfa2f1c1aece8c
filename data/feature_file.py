"""Features of many images in one parquet file, written as they come."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

AT_ONCE = 1024  # rows that are kept before they are written


def write_features(found: Iterable[tuple[str, np.ndarray]], width: int, out: Path) -> int:
    """Write columns `file` and `features` (`width` numbers in float32), with checksums; the number of rows.

    Memory does not grow with their number. Bytes of a name that are no UTF-8 are escaped.
    """
    schema = pa.schema([("file", pa.string()), ("features", pa.list_(pa.float32(), width))])
    rows: Iterator[tuple[str, np.ndarray]] = iter(found)
    count = 0
    with pq.ParquetWriter(out, schema, write_page_checksum=True) as writer:
        while some := list(islice(rows, AT_ONCE)):
            flat = pa.array(np.concatenate([vector.astype(np.float32).ravel() for _, vector in some]))
            names = pa.array([os.fsencode(name).decode("utf-8", "backslashreplace") for name, _ in some], pa.string())
            writer.write_table(pa.table([names, pa.FixedSizeListArray.from_arrays(flat, width)], schema=schema))
            count += len(some)
    return count
