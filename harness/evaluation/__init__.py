"""Evaluation of a trained model.

loaded.py       configuration of a model without a run
predictions.py  outputs, scores and cost for every image
studies/        studies of a trained model
budget.py       a budget for an image, and the choice within it that is stored with a model
learning_curve.py  loss and score against images seen
tables.py       printed tables, CSV files
pictures.py     pictures of packed rows, attention masks, accuracy
clip_pictures.py  pictures of tubelets
found_boxes.py  boxes found in image files: lines, pictures, a COCO file
report.py       a run in one file
html.py         HTML in which text is escaped
clip_predictions.py  outputs for clips of every kind
label_map.py    answers in other classes than those of the model
search.py       images found by a text
found_masks.py  masks found in image files: lines, pictures, a COCO file
overlays.py     masks and boxes on photographs, sheets of truth beside prediction
"""
