"""Sampling and packing options, as frozen dataclasses.

kinds.py            shared types
resolution.py       size of each image
patch_size.py       patch size of each image
merge.py            patches of several sizes within an image
dropping.py         share of tokens dropped
token_selection.py  which tokens are kept
augment.py          random changes of pixels
packing.py          which images share a row
balance.py          how often the images of small classes are repeated
"""

from .augment import Augment as Augment
from .augment import Mix as Mix
from .balance import ByClass as ByClass
from .dropping import Beta as Beta
from .dropping import ByContent as ByContent
from .dropping import ByResolution as ByResolution
from .dropping import Constant as Constant
from .dropping import Dropping as Dropping
from .dropping import Schedule as Schedule
from .merge import Law as Law
from .merge import Merge as Merge
from .merge import MergeByContent as MergeByContent
from .merge import MergeByThreshold as MergeByThreshold
from .merge import Merged as Merged
from .packing import BestFit as BestFit
from .packing import DropSurplus as DropSurplus
from .packing import ExactFit as ExactFit
from .packing import FirstFit as FirstFit
from .packing import Packing as Packing
from .patch_size import AtBudget as AtBudget
from .patch_size import CoarseToFine as CoarseToFine
from .patch_size import OneSize as OneSize
from .patch_size import PatchSizes as PatchSizes
from .patch_size import PerImage as PerImage
from .patch_size import PerStep as PerStep
from .resolution import Areas as Areas
from .resolution import Clips as Clips
from .resolution import Native as Native
from .resolution import NeverEnlarged as NeverEnlarged
from .resolution import OneSquare as OneSquare
from .resolution import Resolution as Resolution
from .resolution import Sides as Sides
from .resolution import Square as Square
from .resolution import TokenBudget as TokenBudget
from .resolution import TruncatedNormal as TruncatedNormal
from .resolution import Uniform as Uniform
from .token_selection import AtRandom as AtRandom
from .token_selection import ByContrast as ByContrast
from .token_selection import Spread as Spread
from .token_selection import TokenSelection as TokenSelection
