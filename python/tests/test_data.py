# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mpt.data: batches are what the layout says, follow from the seed, and bad files are named."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from mpt import data
from mpt.data import DataError

SEQ = 32


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), size=rng.integers(2, 7))) for _ in range(300)]
    return [" ".join(rng.choice(words, size=rng.integers(20, 200))) for _ in range(40)]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return data.train_tokenizer(texts, 150)


@pytest.fixture(scope="module")
def batches(texts, tokenizer):
    return data.make_batches(tokenizer, texts, batch=4, seq=SEQ, seed=3)


def test_tokenizer_has_berts_special_tokens_first(tokenizer):
    assert [tokenizer.token_to_id(t) for t in data.SPECIAL_TOKENS] == list(range(5))
    assert tokenizer.get_vocab_size() == 150


def test_tokenizer_is_the_same_each_time(texts, tokenizer):
    assert data.train_tokenizer(texts, 150).to_str() == tokenizer.to_str()


def test_tokenizer_survives_its_file(tokenizer, texts, tmp_path):
    tokenizer.save(str(tmp_path / "t.json"))
    again = data.load_tokenizer(tmp_path / "t.json")
    assert again.encode(texts[0]).ids == tokenizer.encode(texts[0]).ids


def test_too_large_a_vocabulary_is_refused(texts):
    with pytest.raises(DataError, match="expected 100000 tokens, the corpus gives"):
        data.train_tokenizer(texts, 100000)


def test_windows_hold_two_segments_and_padding(tokenizer, texts):
    windows = data.pack(tokenizer, texts, SEQ)
    for ids, mask, types in zip(windows["input_ids"], windows["attention_mask"], windows["token_type_ids"]):
        size = mask.sum()
        assert ids[0] == 2 and ids[size - 1] == 3 and (ids[:size] == 3).sum() == 2
        assert (ids[size:] == 0).all() and (types[size:] == 0).all()
        middle = int(np.flatnonzero(ids == 3)[0])
        assert (types[: middle + 1] == 0).all() and (types[middle + 1 : size] == 1).all()
    assert (windows["attention_mask"] == 0).any()


def test_windows_keep_every_token_of_a_text(tokenizer, texts):
    windows = data.pack(tokenizer, texts[:1], SEQ)
    kept = windows["input_ids"][windows["input_ids"] > 4]
    whole = np.array(tokenizer.encode(texts[0], add_special_tokens=False).ids)
    assert len(whole) - len(kept) < data.SHORTEST_WINDOW
    np.testing.assert_array_equal(kept, whole[: len(kept)])


def test_masking_proportions(tokenizer):
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 150, 100_000)
    special = {t: i for i, t in enumerate(data.SPECIAL_TOKENS)}
    masked, labels = data.mask_window(ids, special, 150, rng)
    chosen = labels != data.IGNORE_INDEX
    assert chosen.mean() == pytest.approx(0.15, abs=1e-4)
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], ids[~chosen])
    assert (masked[chosen] == special["[MASK]"]).mean() == pytest.approx(0.8, abs=0.01)
    assert (masked[chosen] == ids[chosen]).mean() == pytest.approx(0.1, abs=0.01)


def test_special_tokens_are_never_masked(batches):
    special = np.isin(batches.tensors["input_ids"], [0, 2, 3])
    assert (batches.tensors["labels"][special] == data.IGNORE_INDEX).all()


def test_batches_follow_from_the_seed(texts, tokenizer, batches):
    again = data.make_batches(tokenizer, texts, batch=4, seq=SEQ, seed=3)
    other = data.make_batches(tokenizer, texts, batch=4, seq=SEQ, seed=4)
    for name in data.NAMES:
        np.testing.assert_array_equal(again.tensors[name], batches.tensors[name])
    assert (other.tensors["input_ids"] != batches.tensors["input_ids"]).any()


def test_more_batches_than_one_pass(texts, tokenizer, batches):
    count = 2 * len(batches) + 3
    more = data.make_batches(tokenizer, texts, batch=4, seq=SEQ, count=count, seed=3)
    assert more.tensors["labels"].shape == (count, 4, SEQ)


def test_a_longer_run_starts_with_the_same_batches(texts, tokenizer, batches):
    more = data.make_batches(tokenizer, texts, batch=4, seq=SEQ, count=3 * len(batches), seed=3)
    np.testing.assert_array_equal(more.tensors["input_ids"][: len(batches)], batches.tensors["input_ids"])


def test_file_round_trip(batches, tmp_path):
    loaded = data.load_batches(data.save_batches(batches, tmp_path / "b.safetensors"))
    assert loaded.metadata == batches.metadata and loaded.shape == (4, SEQ)
    for name in data.NAMES:
        np.testing.assert_array_equal(loaded.tensors[name], batches.tensors[name])
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


def broken(batches, name=None, value=None, at=None, drop=None, **metadata):
    tensors = {n: v.copy() for n, v in batches.tensors.items() if n != drop}
    if name:
        tensors[name] = value(tensors[name]) if at is None else tensors[name]
        if at is not None:
            tensors[name][at] = value
    return tensors, {**batches.metadata, **metadata}


CASES = [
    (dict(format="other"), "expected mpt.batches version 1 in the metadata, found other version 1"),
    (dict(version="2"), "found mpt.batches version 2"),
    (dict(vocab_size="many"), "metadata 'vocab_size': expected a number, found 'many'"),
    (dict(drop="labels"), "tensor 'labels' is missing"),
    (dict(name="labels", value=lambda v: v.astype(np.int32)), "'labels': expected int64, found int32"),
    (dict(name="input_ids", value=lambda v: v[0].copy()), r"expected shape \[N, batch, seq\]"),
    (dict(name="attention_mask", value=lambda v: v[:, :2].copy()), "'attention_mask': expected shape"),
    (dict(name="input_ids", value=150, at=(0, 1, 2)), r"input_ids\[0, 1, 2\] = 150: expected 0 to 149"),
    (dict(name="input_ids", value=-1, at=(1, 0, 0)), r"input_ids\[1, 0, 0\] = -1"),
    (dict(name="attention_mask", value=2, at=(0, 0, 0)), r"attention_mask\[0, 0, 0\] = 2"),
    (dict(name="token_type_ids", value=2, at=(0, 3, 1)), r"token_type_ids\[0, 3, 1\] = 2: expected 0 to 1"),
    (dict(name="labels", value=-5, at=(0, 0, 1)), r"labels\[0, 0, 1\] = -5"),
    (dict(name="labels", value=-100, at=2), "batch 2 has no labels"),
]


@pytest.mark.parametrize("change, message", CASES)
def test_bad_files_are_refused(batches, tmp_path, change, message):
    tensors, metadata = broken(batches, **change)
    save_file(tensors, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(DataError, match=message) as caught:
        data.load_batches(tmp_path / "bad.safetensors")
    assert "bad.safetensors" in str(caught.value)


def test_truncated_and_missing_files(batches, tmp_path):
    path = data.save_batches(batches, tmp_path / "b.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not a safetensors file"):
        data.load_batches(path)
    with pytest.raises(DataError, match="no such batches file"):
        data.load_batches(tmp_path / "none")
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer file"):
        data.load_tokenizer(tmp_path / "t.json")


def test_corpus_errors(tmp_path):
    with pytest.raises(DataError, match="found none"):
        data.read_corpus(tmp_path)
    (tmp_path / "x.rst.txt").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match="x.rst.txt: expected UTF-8 text, byte 2"):
        data.read_corpus(tmp_path)


def test_corpus_too_small_for_a_batch(tokenizer, texts):
    with pytest.raises(DataError, match="do not fill one batch of 1000"):
        data.make_batches(tokenizer, texts, batch=1000, seq=SEQ)
    with pytest.raises(DataError, match="expected at least 11"):
        data.pack(tokenizer, texts, 10)
