"""Saved models, ours and those of other projects.

bridge.py      modules ↔ nested dicts of arrays ↔ dotted names
saved.py       the format of this project: model.safetensors and config.json
load.py        `load_model`: a folder of ours, or of another project
folder.py      a folder as it comes from a hub: JSON, safetensors, npz
names.py       tables of names, in both directions
pretrained.py  `save_pretrained`: in the layout of this project, or of another one
proposal.py    a model of ours in the words of another project
card.py        the model card
family.py      what importers say of a folder, and have in common
foreign.py     the family of a folder, its checks, the model
vit.py         family: ViT and DeiT
clip.py        family: CLIP, SigLIP, SigLIP 2
dino.py        family: DINOv2, DINOv3
timm.py        family: `vit_*`, `deit_*`, `naflexvit_*` of timm
big_vision.py  family: ViT, FlexiViT, SigLIP in `.npz`
moonvit.py     family: MoonViT
moonvit_v2.py  family: MoonViT-V2
pixtral.py     family: Pixtral
deepseek.py    family: DeepSeek-ViT, as in timm
qwen.py        family: Qwen2-VL, Qwen2.5-VL, Qwen3-VL
univitar.py    family: UniViTAR
"""
