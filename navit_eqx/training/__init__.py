"""Training; needs optax, and orbax for checkpoints.

config.py            optimizers, schedules, parallelism as frozen dataclasses
optim.py             the optimizer, its schedule, which parameters decay, and rates by layer
frozen.py            frozen and trained parameters
embedded.py          the loss on vectors of a frozen backbone
step.py              one train step as a pure function of (state, batch)
program.py           compiled init and train step, with their shardings
compiling.py         compiler options
matching.py          assignment of boxes to tokens with the least cost
sharding.py          device mesh and shardings
rendezvous.py        all processes meet before JAX joins them
hosts.py             multi-process start-up, broadcast and gather between hosts
checkpoints.py       saving and restoring the training state
attention_choice.py  timing and checks that choose the attention backend
"""
