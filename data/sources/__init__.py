"""Where images come from.

source.py           what every source is; images in memory
folder.py           a folder of images, one class per sub-folder
parquet.py          encoded images in parquet files; parquet_columns.py reads their columns
records.py          decoded images in ArrayRecord files, written by `data/cache.py`
digits.py           the embedded digit strips
decode.py           bytes → upright pixels, or a reason
measured.py         sizes from headers, cached between runs
memory.py           decoded images kept in memory
"""

from .digits import Digits as Digits
from .folder import Folder as Folder
from .label_sets import LabelSets as LabelSets
from .parquet import Parquet as Parquet
from .records import Cached as Cached
from .source import Arrays as Arrays
from .source import Source as Source
