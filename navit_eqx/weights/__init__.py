"""Saved models.

bridge.py  modules ↔ nested dicts of arrays ↔ dotted names
saved.py   the format of this project: model.safetensors and config.json
"""
