"""What `train.py`, `evaluate.py` and `predict.py` share.

config.py     one frozen dataclass for a run, and the presets
choose.py     what the data decide: sizes, row length, steps
loading.py    sources and rows as configured
sweep.py      accuracy over a list of resolutions
report.py     run folder, progress, tables
pictures.py   what a run looks like
command.py    command lines, errors and exit codes
"""
