# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Masked-LM batches: from text files to one safetensors file that every stage reads.

Layout of a batches file (version 1): four int64 tensors [N, batch, seq],
  input_ids       token ids, some replaced by [MASK] or by a random token
  attention_mask  1 for tokens, 0 for padding
  token_type_ids  0 for the first segment of a window, 1 for the second, 0 for padding
  labels          the original id where the model must predict it, -100 elsewhere
and string metadata: format = "mpt.batches", version, vocab_size, seed, ignore_index,
mask_probability, max_labels (most labelled positions of any batch), tokenizer_sha256.

A window is [CLS] first half [SEP] second half [SEP] of consecutive tokens of one file. The
last window of a file is padded, so some batches hold real padding. 15 % of a window's tokens
(rounded, at least one) carry labels; of these 80 % become [MASK], 10 % a random token and 10 %
stay. All draws follow from the seed: the same files and seed give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

FORMAT, VERSION = "mpt.batches", "1"
NAMES = ("input_ids", "attention_mask", "token_type_ids", "labels")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
IGNORE_INDEX = -100
MASK_PROBABILITY = 0.15
SHORTEST_WINDOW = 8
CORPUS = Path("/usr/share/doc/python3.11/html/_sources")
CORPUS_PATTERN = "*.rst.txt"


class DataError(ValueError):
    """Text, a tokenizer or a batches file is not what a stage needs."""


@dataclass(frozen=True)
class Batches:
    """A validated batches file: tensors int64 [N, batch, seq] by name, and its metadata."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]

    def __len__(self) -> int:
        return len(self.tensors["input_ids"])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return batch `index` modulo the number of batches: name -> int64 [batch, seq]."""
        return {name: values[index % len(self)] for name, values in self.tensors.items()}

    @property
    def vocab_size(self) -> int:
        return int(self.metadata["vocab_size"])

    @property
    def shape(self) -> tuple[int, int]:
        """Batch and sequence length."""
        return self.tensors["input_ids"].shape[1:]


def read_corpus(directory: str | os.PathLike[str] = CORPUS, pattern: str = CORPUS_PATTERN) -> list[str]:
    """Return the texts of all files below `directory` that match, in order of their paths.

    Raises DataError if there are none, or if one is not UTF-8.
    """
    root = Path(directory)
    files = sorted(path for path in root.rglob(pattern) if path.is_file())
    if not files:
        raise DataError(
            f"{root}: expected text files matching '{pattern}', found none "
            "(Debian package python3.11-doc has a corpus)"
        )
    texts = []
    for path in files:
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: expected UTF-8 text, byte {error.start} is not") from error
    return texts


def train_tokenizer(texts: Sequence[str], vocab_size: int = 4096) -> Tokenizer:
    """Return a lower-casing WordPiece tokenizer with BERT's special tokens as ids 0 to 4.

    Raises DataError if the texts do not support that many tokens.
    """
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer=trainer, length=len(texts))
    if tokenizer.get_vocab_size() != vocab_size:
        raise DataError(
            f"tokenizer: expected {vocab_size} tokens, the corpus gives {tokenizer.get_vocab_size()}"
        )
    return _with_sorted_ids(tokenizer)


def _with_sorted_ids(tokenizer: Tokenizer) -> Tokenizer:
    """Return the same tokenizer with ids in an order that does not change from run to run.

    The trainer finds the same tokens each time, but numbers single letters in hash order.
    WordPiece looks up the longest match, so the order of ids means nothing to it.
    """
    special = list(SPECIAL_TOKENS)
    ordinary = sorted(set(tokenizer.get_vocab()) - set(special))
    vocab = {token: number for number, token in enumerate([*special, *ordinary])}
    result = Tokenizer(WordPiece(vocab, unk_token="[UNK]"))
    result.normalizer, result.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    result.add_special_tokens(special)
    return result


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Return the tokenizer stored at `path`; raises DataError if it lacks a special token."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such tokenizer file")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{path}: not a tokenizer file: {error}") from error
    _special_ids(tokenizer)
    return tokenizer


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return special token -> id; raises DataError naming one that is missing."""
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    for token, number in ids.items():
        if number is None:
            raise DataError(f"tokenizer: special token {token} is missing")
    return ids


def _windows(ids: Sequence[int], seq: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yield the two segments of each window of one text; the last one may be short."""
    room = seq - 3
    for start in range(0, len(ids), room):
        piece = ids[start : start + room]
        if len(piece) >= SHORTEST_WINDOW:
            half = len(piece) // 2
            yield piece[:half], piece[half:]


def pack(tokenizer: Tokenizer, texts: Sequence[str], seq: int) -> dict[str, np.ndarray]:
    """Return unmasked windows of all texts: input_ids, attention_mask, token_type_ids [W, seq].

    Raises DataError if seq is too short, or if the texts give no window.
    """
    if seq < SHORTEST_WINDOW + 3:
        raise DataError(f"sequence length {seq}: expected at least {SHORTEST_WINDOW + 3}")
    special = _special_ids(tokenizer)
    cls, sep, pad = special["[CLS]"], special["[SEP]"], special["[PAD]"]
    rows, types, sizes = [], [], []
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        for first, second in _windows(encoding.ids, seq):
            row = [cls, *first, sep, *second, sep]
            fill = seq - len(row)
            rows.append(row + [pad] * fill)
            types.append([0] * (len(first) + 2) + [1] * (len(second) + 1) + [0] * fill)
            sizes.append(len(row))
    if not rows:
        raise DataError(f"corpus: no text has {SHORTEST_WINDOW} tokens")
    mask = np.arange(seq)[None, :] < np.array(sizes)[:, None]
    return {
        "input_ids": np.array(rows, np.int64),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.array(types, np.int64),
    }


def mask_window(
    ids: np.ndarray, special: dict[str, int], vocab_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (masked ids, labels) [seq] of one window: 15 %, of these 80/10/10."""
    candidates = np.flatnonzero(~np.isin(ids, [special[t] for t in ("[PAD]", "[CLS]", "[SEP]")]))
    count = max(1, round(MASK_PROBABILITY * len(candidates)))
    chosen = rng.choice(candidates, size=count, replace=False)
    labels = np.full_like(ids, IGNORE_INDEX)
    labels[chosen] = ids[chosen]
    draw = rng.random(count)
    others = rng.integers(len(SPECIAL_TOKENS), vocab_size, count)
    masked = ids.copy()
    masked[chosen[draw < 0.8]] = special["[MASK]"]
    swap = (draw >= 0.8) & (draw < 0.9)
    masked[chosen[swap]] = others[swap]
    return masked, labels


def make_batches(
    tokenizer: Tokenizer, texts: Sequence[str], batch: int, seq: int, count: int | None = None, seed: int = 0
) -> Batches:
    """Return `count` batches [count, batch, seq] of shuffled, masked windows.

    count None: one pass over the corpus, the incomplete last batch left out. With more batches
    than one pass holds, further passes follow with a new order and new masks.
    Raises DataError if the corpus does not fill one batch.
    """
    windows = pack(tokenizer, texts, seq)
    total, vocab = len(windows["input_ids"]), tokenizer.get_vocab_size()
    count = total // batch if count is None else count
    if total < batch or count < 1:
        raise DataError(f"corpus: {total} windows of {seq} tokens do not fill one batch of {batch}")
    special = _special_ids(tokenizer)
    passes = -(-count * batch // total)
    order = np.concatenate([np.random.default_rng([seed, 0, p]).permutation(total) for p in range(passes)])
    order = order[: count * batch]
    tensors = {name: values[order] for name, values in windows.items()}
    tensors["labels"] = np.empty_like(tensors["input_ids"])
    for row, ids in enumerate(tensors["input_ids"]):
        rng = np.random.default_rng([seed, 1, row])
        tensors["input_ids"][row], tensors["labels"][row] = mask_window(ids, special, vocab, rng)
    tensors = {name: np.ascontiguousarray(tensors[name].reshape(count, batch, seq)) for name in NAMES}
    labelled = (tensors["labels"] != IGNORE_INDEX).sum(axis=(1, 2))
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "vocab_size": str(vocab),
        "seed": str(seed),
        "ignore_index": str(IGNORE_INDEX),
        "mask_probability": str(MASK_PROBABILITY),
        "max_labels": str(int(labelled.max())),
        "tokenizer_sha256": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
    }
    return Batches(tensors, metadata)


def save_batches(batches: Batches, path: str | os.PathLike[str]) -> Path:
    """Validate and write `batches`, beside `path` first and then renamed."""
    validate(batches.tensors, batches.metadata, str(path))
    path = Path(path)
    staging = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(batches.tensors, staging, metadata=batches.metadata)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
    return path


def load_batches(path: str | os.PathLike[str]) -> Batches:
    """Return the validated batches of a file; raises DataError if it is anything else."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such batches file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise DataError(f"{path}: not a safetensors file: {error}") from error
    validate(tensors, metadata, str(path))
    return Batches(tensors, metadata)


def validate(tensors: dict[str, np.ndarray], metadata: dict[str, str], where: str) -> None:
    """Raise DataError, beginning with `where`, unless the layout above holds."""
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        found = f"{metadata.get('format', 'no format')} version {metadata.get('version', 'none')}"
        raise DataError(f"{where}: expected {FORMAT} version {VERSION} in the metadata, found {found}")
    for key in ("vocab_size", "ignore_index"):
        if not metadata.get(key, "").lstrip("-").isdigit():
            raise DataError(f"{where}: metadata '{key}': expected a number, found {metadata.get(key)!r}")
    _validate_shapes(tensors, where)
    vocab, ignore = int(metadata["vocab_size"]), int(metadata["ignore_index"])
    _validate_range(tensors["input_ids"], "input_ids", 0, vocab, where)
    _validate_range(tensors["attention_mask"], "attention_mask", 0, 2, where)
    _validate_range(tensors["token_type_ids"], "token_type_ids", 0, 2, where)
    labels = tensors["labels"]
    _validate_range(np.where(labels == ignore, 0, labels), "labels", 0, vocab, where)
    empty = np.flatnonzero((labels == ignore).all(axis=(1, 2)))
    if empty.size:
        raise DataError(f"{where}: batch {empty[0]} has no labels, its loss is undefined")


def _validate_shapes(tensors: dict[str, np.ndarray], where: str) -> None:
    """Check that the four tensors are there, int64 and of one shape [N, batch, seq]."""
    for name in NAMES:
        if name not in tensors:
            raise DataError(f"{where}: tensor '{name}' is missing, found {', '.join(sorted(tensors)) or 'none'}")
        if tensors[name].dtype != np.int64:
            raise DataError(f"{where}: tensor '{name}': expected int64, found {tensors[name].dtype}")
    shape = tensors["input_ids"].shape
    if len(shape) != 3 or 0 in shape:
        raise DataError(f"{where}: tensor 'input_ids': expected shape [N, batch, seq], found {list(shape)}")
    for name in NAMES:
        if tensors[name].shape != shape:
            raise DataError(
                f"{where}: tensor '{name}': expected shape {list(shape)} as input_ids, "
                f"found {list(tensors[name].shape)}"
            )


def _validate_range(values: np.ndarray, name: str, low: int, high: int, where: str) -> None:
    """Check low <= values < high and name the first position that is outside."""
    bad = np.argwhere((values < low) | (values >= high))
    if bad.size:
        position = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{where}: {name}{list(position)} = {int(values[position])}: expected {low} to {high - 1}"
        )
