"""Tasks: heads and losses as formulas on pooled vectors.

    classify.py     one class per image: softmax or sigmoid cross-entropy, label smoothing, mixing
    multi_label.py  a set of classes per image: sigmoid cross-entropy
    distill.py      distillation from the logits of a teacher
    contrast.py     images and texts that belong together: sigmoid and softmax losses over all pairs of a batch
    embed.py        features alone, without a loss
    detect.py       boxes with classes, on the encoded tokens
    class_heads.py  classes of boxes that are named by texts
    segment.py      a class for every pixel, on the encoded tokens

Every task of the table has `Targets` of a row, `predict(params, features)` and `loss(params, features, targets, used)`,
which returns the sum over the images of a row and their number. Rows hold different numbers of images, so a mean of
means would weight images unequally: add sums and counts over the batch, then divide once. A contrastive loss compares
all images of a batch with all texts, and has no sum over rows.
"""

from . import classify, distill, embed, multi_label

TASKS = {"Classify": classify, "MultiLabel": multi_label, "Distill": distill, "Embed": embed}
