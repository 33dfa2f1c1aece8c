"""Shared code of `train.py`, `evaluate.py`, `predict.py` and `export.py`.

config.py      a run as a frozen dataclass
presets.py     configurations by name
digit_presets.py  configurations of digit strips
contrast_presets.py  configurations of images and texts
video_presets.py  configurations of clips
detect_presets.py  configurations that find boxes
segment_presets.py  configurations that give every pixel a class
cli.py         command lines from dataclasses
habits.py      answers to options of other programs
settings.py    settings that are not defaults
resolve.py     automatic options, from statistics of the data
adaptive.py    merged patches, hierarchies, moved coordinates: what goes with them
content.py     what rates by content need to know of the data
embedded.py    whether images can be embedded once
lengths.py     tokens of a set of images under a configuration
run/           training: folder, loading, program, warm start, resume, progress
evaluation/    predictions of a trained model, studies, tables, pictures
case.py        a run before it starts, part by part
doctor.py      checks before a run
cost.py        FLOPs of a configured model
process.py     allocator, compilation cache, signals
terminal.py    safe standard output
working.py     progress of long work
exit_codes.py  exceptions and exit codes
"""
