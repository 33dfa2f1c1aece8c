"""The pieces of a training run.

folder.py      the run's folder: its lock, what is written there
loading.py     sources, plans and packed rows as configured
program.py     the training program of a configuration
warm_start.py  a run that starts from a saved model, or from a step of another run
attention.py   which program computes attention
progress.py    what a run counts and prints
logger.py      where numbers go beside metrics.jsonl
stream.py      batches that survive the death of a data worker
resume.py      an interrupted run goes on
"""
