"""Parts of a training run.

folder.py      run folder: lock, configuration, versions
loading.py     sources, tasks, plans and packed rows of a configuration
opened.py      what a run opens: images, task, resolved configuration
training.py    the training loop: steps, lines, validation, saves
program.py     compiled training program of a configuration
ahead.py       the evaluation at the end, planned before the first step
trained.py     the model of a run, finished or not
warm_start.py  start from a saved model, or from a step of another run
embedded.py    vectors of a frozen backbone, computed once
attention.py   choice of the attention backend
budget.py      steps that fit a number of minutes
cadence.py     when to print a line and when to save
progress.py    counters, metrics.jsonl, printed lines
logger.py      TensorBoard, Weights & Biases
trace.py       some steps under JAX's profiler
stream.py      batches with restart of data workers
selection.py   best parameters by validation, early stopping
resume.py      resume an interrupted run
"""
