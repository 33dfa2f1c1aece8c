"""Measures of a trained model, on saved predictions and features.

metrics.py      accuracy, precision@1, mean average precision
cost.py         FLOPs and parameters as formulas
calibration.py  can confidence be believed?
cascade.py      a larger model where a small one is unsure
similarity.py   do two patch sizes give the same features?
probe.py        k-shot ridge regression on frozen features
"""
