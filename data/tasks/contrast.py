"""Pairs of images and texts: rows of both kinds that hold the same pairs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.evaluation.retrieval import ranks, recall
from reference.pairs import Room, pack_pairs
from reference.rows import Batch, Row, Tokens, pack
from reference.tasks.contrast import bias_init

from ..errors import DataError
from ..manifest import Manifest
from ..plan import EpochPlans, Plan, TextPlan
from ..randomness import Purpose, generator
from ..rows import Drawn, PlannedRows
from ..sampling.packing import ExactFit, Template
from ..texts import Texts, Tokenizer, texts_of
from .multi_label import label_sets
from .task import DataTask, Lengths, in_slots

MARGIN = 1.03  # text tokens of a batch over their mean number
FEWEST = 6  # mean texts in a row, so that rows fill well


class Targets(NamedTuple):
    """Rows of the texts of a group of rows, and the keys of both sides; −1 in an empty slot."""

    keys: Int[np.ndarray, "B I"]
    text_row: Row
    text_keys: Int[np.ndarray, "R M"]


class Contrast(DataTask):
    """Targets are packed texts. Each image has one or several captions, of which one is drawn in every epoch.

    The captions are the classes of the manifest, and those of an image are its label set.
    """

    metric = "recall_at_1"
    own_classes = False
    studies = ("sweep", "retrieval", "zeroshot", "attention")

    def __init__(self, *, tokenizer: Tokenizer, texts: Any, shards: int, loss: Any):
        self.tokenizer, self.packing, self.shards, self.loss = tokenizer, texts, shards, loss

    def check(self, manifest: Manifest) -> None:
        bare = np.flatnonzero((label_sets(manifest) < 0).all(-1))
        if len(bare):
            raise DataError(
                f"{manifest.where}: {len(bare)} images have no caption, first {manifest.name(int(bare[0]))}: "
                "write captions for them, or leave them out"
            )

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """Rows of texts for the mean number of pairs in a batch, and the bias of the sigmoid loss."""
        texts = texts_of(lengths.manifest.classes, self.tokenizer)
        pairs = lengths.rows * lengths.row_tokens / lengths.kept.mean()
        sets = label_sets(lengths.manifest)
        mean = float(texts.lengths[sets[sets >= 0]].mean())
        notes = []
        if None in (self.packing.rows, self.packing.row_tokens, self.packing.row_texts):
            if self.packing.unique:
                mean = distinct_tokens(sets, texts, pairs) / pairs  # of a pair
            allowed = [n for n in range(lengths.devices, lengths.rows + 1, lengths.devices) if lengths.rows % n == 0]
            self.packing = text_rows(self.packing, pairs * mean, mean, int(texts.lengths.max()), allowed)
            rows, tokens, slots = self.packing.shape
            notes = [
                f"task.texts = {rows} rows of {tokens} tokens, {slots} slots: {pairs:.0f} texts of {mean:.1f} tokens"
            ]
        fields = {"texts": self.packing}
        if getattr(self.loss, "bias", 0.0) is None:
            fields["loss"] = replace(self.loss, bias=bias_init(round(pairs)))
            notes += [f"task.loss.bias = {fields['loss'].bias:.2f}: -log(N - 1) for N = {pairs:.0f} pairs in a batch"]
        return fields, notes

    @property
    def room(self) -> Room:
        """Rows of texts in one shard."""
        rows, tokens, slots = self.packing.shape
        if rows % self.shards:
            raise DataError(f"task.texts.rows={rows} must be a multiple of task.shards={self.shards}")
        return Room(rows // self.shards, tokens, slots)

    def plans(self, plans: EpochPlans, rows: int) -> Any:
        """Raises DataError where rows do not divide into shards, or have one patch size per step."""
        if rows % self.shards:
            raise DataError(f"rows={rows} must be a multiple of task.shards={self.shards}")
        sizes = plans.sampling["patch_size"]
        if getattr(sizes, "per", "image") == "step":
            raise DataError(
                "data.patch_sizes draws one size per step, and pairs need all rows alike: draw one per image"
            )
        if isinstance(plans.sampling["packing"].rule, Template):
            raise DataError(
                "data.packing.rule=Template: a pair without room would leave a window open; choose ExactFit"
            )
        return PairPlans(plans, self.tokenizer, rows // self.shards, self.room, self.packing.unique)

    def batches(self, rows: PlannedRows) -> "PairRows":
        """Raises DataError where images are mixed: a mixed image has no caption."""
        if rows.augment and rows.augment.mix:
            raise DataError("data.augment.mix: a mixture of two images has no caption; turn it off")
        plans: Any = rows.epochs.plan
        return PairRows(rows, plans)

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Any:
        raise NotImplementedError("texts are planned for several rows together: use `batches`")

    def scores(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """1 where the most similar text is a caption of the image, else 0; ties count against the model."""
        return (ranks(*self.distinct(outputs, image_ids, manifest)) <= 1).astype(float)

    def metrics(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """Recall of texts by images, and of images by texts."""
        if not len(image_ids):
            return {}
        scores, positive = self.distinct(outputs, image_ids, manifest)
        texts, images = ranks(scores, positive), ranks(scores.T, positive.T)
        asked = positive.any(0)
        return {
            "recall_at_5": recall(texts, 5),
            "image_recall_at_1": recall(images[asked], 1),
            "image_recall_at_5": recall(images[asked], 5),
        }

    def truth(self, image_ids: Int[np.ndarray, " N"], manifest: Manifest) -> Bool[np.ndarray, "N Y"]:
        """True at every text that has the same ids as a caption of the image."""
        keys = texts_of(manifest.classes, self.tokenizer).keys
        own = label_sets(manifest)[image_ids]
        of_image = np.where(own >= 0, keys[own], -1)
        return (of_image[:, :, None] == keys).any(1)

    def distinct(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> tuple[Float[np.ndarray, "N X"], Bool[np.ndarray, "N X"]]:
        """Similarities to each distinct text, and which of them are captions of the image."""
        first = np.unique(texts_of(manifest.classes, self.tokenizer).keys)
        return outputs[:, first], self.truth(image_ids, manifest)[:, first]

    def main(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> tuple[Float[np.ndarray, "N X"], Bool[np.ndarray, "N X"]]:
        """As `distinct`, among the texts that are the first of an image."""
        keys = texts_of(manifest.classes, self.tokenizer).keys
        main = np.unique(keys[label_sets(manifest)[image_ids, 0]])
        return outputs[:, main], self.truth(image_ids, manifest)[:, main]


def distinct_tokens(sets: Int[np.ndarray, "N M"], texts: Texts, pairs: float) -> float:
    """Expected tokens of the distinct texts of a batch: Σ_k (1 − (1 − p_k)^n) t_k, for n pairs and texts of t_k tokens
    that a pair has with probability p_k."""
    own = sets >= 0
    shares = np.where(own, 1 / np.maximum(own.sum(-1, keepdims=True), 1), 0)[own]
    share = np.bincount(texts.keys[sets[own]], shares, minlength=len(texts.keys)) / len(sets)
    return float(((1 - (1 - share) ** pairs) * texts.lengths).sum())


def text_rows(packing: Any, tokens: float, mean: float, longest: int, allowed: Sequence[int]) -> Any:
    """`packing` with resolved rows, tokens and slots, for `tokens` text tokens in a batch.

    Choice: the largest allowed number of rows that hold FEWEST texts of mean length, so that attention is cheap.
    """
    need = MARGIN * tokens
    enough = [count for count in allowed if need / count >= max(longest, FEWEST * mean)]
    count = packing.rows or max(enough, default=allowed[0])
    row_tokens = packing.row_tokens or max(longest, ceil(need / count))
    return replace(
        packing, rows=count, row_tokens=row_tokens, row_texts=packing.row_texts or max(4, ceil(2 * row_tokens / mean))
    )


@dataclass
class PairPlans:
    """Plans of blocks, whose rows are grouped so that each group has rows of texts with the same pairs."""

    plans: EpochPlans
    tokenizer: Tokenizer
    group_rows: int
    room: Room
    """Rows of texts in a group."""
    unique: bool = False
    """Each distinct text of a group stands once, for all its images."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "texts"}

    @cached_property
    def texts(self) -> Texts:
        """All captions as token ids.   Raises DataError where one is longer than a row."""
        texts = texts_of(self.plans.source.manifest.classes, self.tokenizer)
        if texts.lengths.max() > self.room.tokens:
            raise DataError(
                f"task.texts.row_tokens={self.room.tokens}, but a caption has {texts.lengths.max()} tokens: raise it"
            )
        return texts

    @property
    def blocks(self) -> int:
        return self.plans.blocks

    @property
    def key(self) -> str:
        """Digest of everything the plans depend on."""
        settings = self.plans.key, self.tokenizer, self.group_rows, self.room, self.unique
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]

    def __call__(self, place: int) -> Plan:
        plan, caption = self.plans(place), self.captions(place)
        used = plan.image_ids >= 0
        ids, kept = plan.image_ids[used], plan.kept[used]
        keys = self.texts.keys[caption[ids]]
        number = np.full(used.shape, -1)
        number[used] = np.arange(len(ids))  # of each pair, in the order of slots
        row_tokens, row_images = self.plans.sampling["packing"].shape
        groups = pack_pairs(
            kept.tolist(),
            self.texts.lengths[caption[ids]].tolist(),
            Room(self.group_rows, row_tokens, row_images),
            self.room,
            ExactFit().rows,
            [row[row >= 0].tolist() for row in number],
            keys=keys.tolist() if self.unique else None,
        )
        slot = table([row for group in groups for row in padded(group.images, self.group_rows)], row_images)
        texts = table([row for group in groups for row in padded(group.texts, self.room.rows)], self.room.slots)
        return rearranged(plan, used, slot)._replace(
            texts=TextPlan(
                np.where(texts >= 0, ids[texts], -1),
                np.where(texts >= 0, caption[ids[texts]], -1),
                np.where(slot >= 0, keys[slot], -1),
            )
        )

    def captions(self, place: int) -> Int[np.ndarray, " N"]:
        """The caption drawn for each image of a block, by image id; −1 for images of other blocks."""
        epoch, block = divmod(place, self.blocks)
        images, sets = self.plans.images(place), label_sets(self.plans.source.manifest)
        count = (sets[images] >= 0).sum(-1)
        rng = generator(Purpose.CAPTION, self.plans.sampling["seed"], epoch, block)
        drawn = np.full(len(sets), -1)
        drawn[images] = sets[images, (rng.random(len(images)) * count).astype(int)]
        return drawn


def padded(rows: list[list[int]], count: int) -> list[list[int]]:
    """The rows of a group, and empty rows up to `count`."""
    return rows + [[]] * (count - len(rows))


def table(rows: list[list[int]], slots: int) -> Int[np.ndarray, "R I"]:
    """Rows of numbers as a table, −1 in empty slots."""
    return np.stack([in_slots(row, slots, -1, np.int32) for row in rows])


def rearranged(plan: Plan, used: Bool[np.ndarray, "R I"], slot: Int[np.ndarray, "Q I"]) -> Plan:
    """The plan with the images of its used slots in other rows: slot → number of the image in the old order."""
    filled = slot >= 0

    def moved(values: np.ndarray, empty: int) -> np.ndarray:
        kept = values[used][slot]
        return np.where(filled.reshape(*filled.shape, *[1] * (kept.ndim - 2)), kept, empty).astype(values.dtype)

    sizes = plan.patch_sizes[used][np.where(filled, slot, 0)]
    return plan._replace(
        image_ids=moved(plan.image_ids, -1), grids=moved(plan.grids, 0), kept=moved(plan.kept, 0), patch_sizes=sizes
    )


@dataclass
class PairRows:
    """Groups of rows of images, with rows of texts that hold the same pairs, by index of the group in the stream."""

    rows: PlannedRows
    plans: PairPlans

    @property
    def rows_each(self) -> int:
        """Rows of images in a group."""
        return self.plans.group_rows

    def __len__(self) -> int:
        return len(self.rows) // self.rows_each

    def __getitem__(self, index: int) -> Batch:
        each = self.rows_each
        epoch, plan, first = self.rows.epochs.locate(int(index) * each)
        rows = [self.rows.load(epoch, *(leaf[r] for leaf in plan[:4]))[0] for r in range(first, first + each)]
        group = first // each * self.plans.room.rows
        assert plan.texts is not None
        images, captions = (leaf[group : group + self.plans.room.rows] for leaf in plan.texts[:2])
        row = stacked(rows)
        place = plan.image_ids[first : first + each]
        keys = dict(zip(place[place >= 0].tolist(), plan.texts.keys[first : first + each][place >= 0].tolist()))
        readable = row.image_ids[row.grids[..., 0] > 0]
        asked = {keys[i] for i in readable.tolist()} if self.plans.unique else None
        text_row = stacked([self.text_row(*both, readable, asked) for both in zip(images, captions)])
        return Batch(row, Targets(keyed(row, keys), text_row, keyed(text_row, keys)))

    def text_row(
        self,
        images: Int[np.ndarray, " M"],
        captions: Int[np.ndarray, " M"],
        readable: np.ndarray,
        asked: set[int] | None = None,
    ) -> Row:
        """A row of the texts of readable images: an image that cannot be read takes its text with it, unless the text
        stands for others too, and its key is `asked`."""
        used = np.isin(images, readable) & (images >= 0)
        if asked is not None:
            used = np.isin(self.plans.texts.keys[captions], [*asked]) & (images >= 0)
        texts = [self.plans.texts.tokens(caption) for caption in captions[used].tolist()]
        nothing = Tokens(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.int32), np.zeros(1, np.int32))
        return pack(texts or [nothing], images[used].tolist() or [-1], self.plans.room.tokens, self.plans.room.slots)


def keyed(row: Row, keys: dict[int, int]) -> Int[np.ndarray, "B I"]:
    """The key of the image of each slot; −1 in slots without tokens."""
    found = [keys[i] if n else -1 for i, n in zip(row.image_ids.ravel().tolist(), row.grids[..., 0].ravel().tolist())]
    return np.array(found, np.int32).reshape(row.image_ids.shape)


def stacked(rows: Sequence[Row]) -> Row:
    """Rows with a leading axis."""
    return Row(*map(np.stack, zip(*rows)))
