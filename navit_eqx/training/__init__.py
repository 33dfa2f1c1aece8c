"""Training: needs optax, and orbax for checkpoints.

config.py            optimizers, schedules, parallelism as frozen dataclasses
optim.py             the optimizer, its schedule, and which parameters decay
step.py              one training step as a pure function of (state, batch)
program.py           compiled init and step, with their shardings
compiling.py         compiler options
sharding.py          devices and shardings
hosts.py             several processes
checkpoints.py       states on disk
attention_choice.py  which attention backend a run takes
"""
