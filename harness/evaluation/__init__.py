"""Evaluation of a trained model.

predictions.py  outputs and scores for every image of a set, each made once
tables.py       tables to read, and CSV files
pictures.py     packed rows, attention masks, accuracy against tokens
studies/        questions about a trained model
"""
