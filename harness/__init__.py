"""What `train.py`, `evaluate.py` and `predict.py` share.

config.py     one frozen dataclass for a run, and the presets
choose.py     what the data decide: sizes, row length, steps
loading.py    sources and rows as configured
looks.py      every image seen in one way, and what the model says
studies/      what a trained model can be asked: a function per study
resume.py     one trainer a folder, what a continued run may change, where it goes on
start.py      fine-tuning: starting from a saved model
report.py     run folder, progress, tables
logger.py     TensorBoard and the like, as optional extras
pictures.py   what a run looks like
doctor.py     is all in order for a run: a line for each check
command.py    command lines, errors and exit codes
"""
