"""Texts → pieces of words, by SentencePiece; needs the extra `text`.

    Path("tokenizer.model").write_bytes(train_tokenizer(captions, 1000))
    SentencePiece("tokenizer.model").encode("a red apple")    # [312, 45, 1]

Where captions have 10 pieces in place of 48 bytes, five times as many texts fit a row.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import ConfigError, check, check_in
from .text import EOS, canonicalize

FILE = "tokenizer.model"


def train_tokenizer(captions: Iterable[str], size: int) -> bytes:
    """The file of a byte-pair model of at most `size` pieces, trained on canonical texts; the same bytes every time.

    Characters that do not occur are encoded as bytes, so that nothing is lost. Choice: the settings below.
    Raises ConfigError where `size` has no room for the 256 bytes and the characters of the captions.
    """
    texts = [_utf8(text) for text in map(canonicalize, captions) if text]
    check(bool(texts), "a tokenizer is trained on captions, and none of these has a word")
    file = io.BytesIO()
    try:
        _library().SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=file,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,  # fewer pieces where the captions have no more
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",  # `canonicalize` has normalized
            max_sentence_length=max(10, *(len(text.encode()) + 1 for text in texts)),  # longer ones would be left out
            num_threads=1,
            minloglevel=2,
            **{"pad_id": 0, "eos_id": EOS, "unk_id": 2, "bos_id": -1},
        )
    except RuntimeError as error:
        why = str(error).splitlines()[0].rpartition("] ")[2]
        raise ConfigError(f"no tokenizer of {size} pieces can be trained on these captions. {why}") from error
    return file.getvalue()


@dataclass(frozen=True)
class SentencePiece:
    """Pieces of words of a SentencePiece model, then EOS; needs the extra `text`."""

    file: str = ""
    """The model; empty: trained on the training captions, and saved with the model."""
    size: int = 1000
    """Largest number of pieces of a model that is trained."""
    max_length: int = 32
    """Largest number of tokens of a text, EOS included; longer texts are cut."""
    digest: str | None = None
    """Hash of the model; auto: that of the file. A file with another one is refused."""

    def __post_init__(self):
        check_in("tokenizer", "[1, 1000000]", size=self.size)
        check_in("tokenizer", "[1, 65536]", max_length=self.max_length)

    @property
    def vocabulary(self) -> int:
        """Number of token ids.   Raises ConfigError without a model."""
        return self._model.vocab_size()

    def encode(self, text: str) -> list[int]:
        """Text → ids, of which the last is EOS; the empty text is EOS alone.   Raises ConfigError without a model."""
        return [*self._model.encode(_utf8(canonicalize(text)))[: self.max_length - 1], EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The canonical text of ids."""
        return self._model.decode([i for i in ids if i != EOS])

    def resolved(self, captions: Iterable[str]) -> "SentencePiece":
        """With the digest of its model, which is trained on `captions` where no file is named.

        Raises ConfigError where the model is not the one of the digest.
        """
        if self.file:
            return replace(self, digest=_digest(_read(self.file, self.digest)))
        if self.digest and _trained(self.digest).is_file():
            return self
        data = train_tokenizer(captions, self.size)
        check(
            self.digest in (None, _digest(data)),
            f"training on these captions gives the tokenizer {_digest(data)}, that of the model is {self.digest}: "
            "restore the captions it was trained on, or name the file of the tokenizer, task.tokenizer.file",
        )
        _write(_trained(_digest(data)), data)
        return replace(self, digest=_digest(data))

    def stored(self, folder: Path | str) -> "SentencePiece":
        """The tokenizer as saved: its model lies in `folder`.   Raises ConfigError where it is another one."""
        _write(Path(folder) / FILE, data := _read(self._path, self.digest))
        return replace(self, file="", digest=_digest(data))

    def located(self, folder: Path | str) -> "SentencePiece":
        """The saved tokenizer, with the model in `folder`.   Raises ConfigError where it is another one."""
        found = replace(self, file=str(Path(folder) / FILE))
        return found.resolved(())

    @property
    def _path(self) -> str:
        check(
            bool(self.file or self.digest),
            "the tokenizer has no model: name its file, task.tokenizer.file, or train one with `resolved`",
        )
        return self.file or str(_trained(self.digest or ""))

    @property
    def _model(self) -> Any:
        return _loaded(self._path, self.digest)


@lru_cache(maxsize=8)
def _loaded(file: str, digest: str | None) -> Any:
    """The model of a file.   Raises ConfigError where it is missing, damaged, another one, or has no EOS at 1."""
    data = _read(file, digest)
    try:
        model = _library().SentencePieceProcessor(model_proto=data)
        eos = model.eos_id()
    except RuntimeError as error:
        raise ConfigError(f"{file} is no SentencePiece model: give another one, task.tokenizer.file FILE") from error
    check(eos == EOS, f"{file} has its end of text at {eos}, not at {EOS}: train one with eos_id={EOS}")
    return model


def _read(file: str, digest: str | None) -> bytes:
    """The bytes of a model.   Raises ConfigError where they are missing or do not have the digest."""
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"the tokenizer {file} cannot be read, {error.strerror}: set task.tokenizer.file") from error
    check(
        digest in (None, _digest(data)),
        f"{file} has digest {_digest(data)}, the tokenizer of the model {digest}: restore the one it was trained with",
    )
    return data


def _trained(digest: str) -> Path:
    """Where a model is kept that was trained here; workers and later runs find it by its digest.

    In the folder of temporary files where the user has no home, or none that can be written.
    """
    name = f"tokenizer-{digest}.model"
    with suppress(RuntimeError, OSError):  # a user without an entry in the table of users; a read-only home
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "navit"
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).exists() or os.access(folder, os.W_OK):
            return folder / name
    return Path(tempfile.gettempdir()) / "navit" / name


def _write(path: Path, data: bytes) -> None:
    """Write a file at once, so that no part of it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.replace(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _utf8(text: str) -> str:
    """The text with ? for what UTF-8 has no bytes for: lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def _library() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ConfigError("SentencePiece is not installed: pip install 'navit-eqx[text]', or use bytes") from error
    return sentencepiece
