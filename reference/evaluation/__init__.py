"""Evaluation of a trained model, from saved predictions and features.

metrics.py      accuracy, precision@1, mean average precision, balanced accuracy, consistency of errors
average_precision.py  precision and recall of detections, as COCO defines them
confusion.py    confusion matrix of pixels, IoU
threshold.py    masks by a threshold of brightness
retrieval.py    rank of the right text for an image, and of the right image for a text
zero_shot.py    the vector of a class from its texts
cost.py         FLOPs and parameters as formulas
calibration.py  expected calibration error, temperature scaling
cascade.py      a better model for the images on which a cheap one is not confident
trade_off.py    the best setting within a budget
similarity.py   similarity of features, such as those at two patch sizes
attention_maps.py  what a model looks at, and how far attention reaches
probe.py        k-shot ridge regression on frozen features
label_map.py    answers in other classes than those of the model
signed_rank.py  exact test of paired differences
corruptions.py  noise, blur, contrast and others at native size
"""
