"""Sources of images.

source.py           interface of a source; arrays in memory
generated.py        base of embedded data sets
digits.py           embedded digit strips
digit_captions.py   digit strips with captions
boxed.py            images with boxes, in every common layout
box_table.py        boxes as files have them, checked
box_json.py         boxes in COCO JSON and parquet files
box_files.py        boxes in YOLO text files and VOC XML
digit_boxes.py      digits on strips and pages, with boxes
captions.py         images with captions, in every common layout
caption_layouts.py  layout of a set of captions, and its splits
caption_parquet.py  captions in parquet files
caption_tables.py   captions in CSV, JSON Lines, COCO JSON and text files
tar_shards.py       tar files in the WebDataset layout
pairs.py            pairs of images and captions, and what is set aside
glyph_captions.py   glyph fields with captions
glyph_scenes.py     scenes of glyphs with a mask
glyphs.py           shapes drawn on a canvas
moving_digits.py    embedded clips of digits that move on a torus
clip_folder.py      a folder of clips, one class per subfolder
clip_lists.py       lists that come with collections of clips: UCF, Kinetics
clip_files.py       frames of folders, animations and NumPy files
video_files.py      frames of videos, by PyAV
emoji.py            drawings of emoji with captions, novel concepts and false captions
folder.py           a folder of images, one class per subfolder
label_sets.py       a folder of images with a table of label sets
attribute_tables.py attributes of images in CSV tables
csv_tables.py       tables with named columns, checked
layout.py           splits, classes and files of a folder
parquet.py          encoded images in parquet files
parquet_columns.py  columns of parquet files, checked
row_groups.py       images of parquet files in memory, or by row group
remote.py           files behind a URL, by fsspec
records.py          decoded images in ArrayRecord files, written by `data/cache.py`
measured.py         image sizes from headers, cached between runs
decode.py           bytes → upright pixels
jpeg.py             JPEG files by simplejpeg, where it is installed
bands.py            images with any number of channels
masks.py            images with a mask each, in every common layout
mask_layouts.py     folders, COCO JSON and parquet files with masks
mask_files.py       masks decoded, drawn from outlines, surveyed
memory.py           decoded images cached in memory
balanced.py         images of small classes, repeated
unboxed.py          images without the boxes of some classes
cropped.py          the middle of images
corrupted.py        images corrupted at native size
"""

from .boxed import Boxed as Boxed
from .captions import Captions as Captions
from .clip_folder import ClipFolder as ClipFolder
from .digit_boxes import DigitBoxes as DigitBoxes
from .digit_captions import DigitCaptions as DigitCaptions
from .digits import Digits as Digits
from .emoji import Emoji as Emoji
from .folder import Folder as Folder
from .glyph_captions import GlyphCaptions as GlyphCaptions
from .glyph_scenes import GlyphScenes as GlyphScenes
from .label_sets import LabelSets as LabelSets
from .masks import Masks as Masks
from .moving_digits import MovingDigits as MovingDigits
from .parquet import Parquet as Parquet
from .records import Cached as Cached
from .source import Arrays as Arrays
from .source import Source as Source
