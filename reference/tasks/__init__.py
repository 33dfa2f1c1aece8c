"""What a model is trained to say of each image: formulas on pooled vectors.

    classify.py     one class per image: softmax or sigmoid cross-entropy, smoothing, mixing
    multi_label.py  a set of classes per image: sigmoid cross-entropy
    distill.py      the logits of a teacher

Every task has `Targets` of a row, `predict(params, features)` and `loss(params, features, targets, used)`, the sum over
the images of a row and their number. Rows hold different numbers of images, so a mean of means would weigh images
unequally: add sums and counts over the whole batch, then divide once.
"""

from . import classify, distill, multi_label

TASKS = {"Classify": classify, "MultiLabel": multi_label, "Distill": distill}
