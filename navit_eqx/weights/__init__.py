"""Models on disk.

bridge.py  modules ↔ nested dicts of arrays ↔ dotted names
saved.py   our own format: model.safetensors and config.json
"""
