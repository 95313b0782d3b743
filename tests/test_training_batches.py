"""An epoch visits everything once, nothing is learned from padding, and a place in the data can be gone back to."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.data.windows import open_tokens, write_tokens
from minilm.training import IGNORE, DocumentBatches, WindowBatches

END = 99


def rows_of(batch):
    """The rows of a batch without padding: what is read, and what is to be predicted."""
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        length = sum(target != IGNORE for target in targets)
        yield ids[:length], targets[:length], ids[length:], targets[length:]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    batch_size=st.integers(1, 7),
    bucket=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_an_epoch_visits_every_document_once_framed_by_its_ends(lengths, batch_size, bucket, seed):
    documents = [[i + 100, *range(length)] for i, length in enumerate(lengths)]
    batches = DocumentBatches(documents, batch_size, END, seed, bucket=bucket)
    for _ in range(2):
        seen = Counter()
        for _ in range(len(batches)):
            batch = next(batches)
            assert batch.ids.dtype == batch.targets.dtype == torch.int64
            for ids, targets, padding, ignored in rows_of(batch):
                assert ids[0] == END == targets[-1]
                assert ids[1:] == targets[:-1]
                assert set(padding) <= {END}
                assert set(ignored) <= {IGNORE}
                seen[tuple(targets[:-1])] += 1
        assert seen == Counter(map(tuple, documents))
    assert batches.epoch == 1


def test_epochs_differ_and_seeds_differ():
    documents = [[i] * (1 + i % 5) for i in range(60)]

    def epoch(batches):
        return [next(batches).ids.tolist() for _ in range(len(batches))]

    first, other = DocumentBatches(documents, 8, END, seed=1), DocumentBatches(documents, 8, END, seed=2)
    one, two = epoch(first), epoch(first)
    assert one != two
    assert one != epoch(other)
    assert one == epoch(DocumentBatches(documents, 8, END, seed=1))


def test_sorting_by_length_leaves_little_padding():
    documents = [[0] * (1 + i % 50) for i in range(2000)]

    def padding(bucket):
        batches = DocumentBatches(documents, 16, END, bucket=bucket)
        batch = [next(batches).targets for _ in range(len(batches))]
        return sum(int((targets == IGNORE).sum()) for targets in batch) / sum(targets.numel() for targets in batch)

    assert padding(bucket=1) > 0.35
    assert padding(bucket=20) < 0.06


@pytest.mark.parametrize("max_length", [1, 3, 4, 100])
def test_a_long_document_goes_on_in_rows_of_its_own_and_no_target_is_lost(max_length):
    document = list(range(10))
    batches = DocumentBatches([document], 20, END, max_length=max_length)
    rows = sorted(rows_of(next(batches)), key=lambda row: row[1])
    targets = [target for _, row, _, _ in rows for target in row]
    assert sorted(targets) == [*document, END]
    assert all(len(ids) <= max_length for ids, *_ in rows)
    for ids, row, _, _ in rows:
        assert ids[1:] == row[:-1]
        assert ids[0] == (END if row[0] == 0 else [*document, END][row[0] - 1 if row[0] != END else 9])


@pytest.mark.parametrize("kind", ["tensor", "list", "uint16 file"])
def test_windows_are_shifted_by_one_whatever_they_are_read_from(kind, tmp_path):
    tokens = torch.randint(1000, (500,), generator=torch.Generator().manual_seed(0))
    source = tokens
    if kind == "list":
        source = tokens.tolist()
    elif kind == "uint16 file":
        write_tokens(tmp_path / "tokens.bin", [tokens.tolist()], vocab_size=1000)
        source = open_tokens(tmp_path / "tokens.bin", vocab_size=1000)
    batches = WindowBatches(source, 4, 16, seed=3)
    expected = WindowBatches(tokens, 4, 16, seed=3)
    text = tokens.tolist()
    for _ in range(5):
        batch, same = next(batches), next(expected)
        assert torch.equal(batch.ids, same.ids)
        assert batch.ids.dtype == torch.int64
        for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
            assert any(text[s : s + 16] == ids and text[s + 1 : s + 17] == targets for s in range(484))


def test_every_start_is_drawn_the_last_one_too():
    batches = WindowBatches(torch.arange(8), 64, 4, seed=0)
    assert {int(row[0]) for _ in range(10) for row in next(batches).ids} == {0, 1, 2, 3}


@pytest.mark.parametrize(("tokens", "length", "stride"), [(50, 8, 1), (50, 8, 8), (51, 10, 7), (9, 8, 3)])
def test_with_a_stride_an_epoch_visits_every_window_once(tokens, length, stride):
    batches = WindowBatches(torch.arange(tokens), 4, length, seed=1, stride=stride)
    for _ in range(2):
        starts = [int(row[0]) for _ in range(len(batches)) for row in next(batches).ids]
        assert sorted(starts) == list(range(0, tokens - length, stride))


def test_skipped_targets_are_ignored_and_the_inputs_stay():
    batch = next(WindowBatches(torch.arange(100), 2, 6, skip=4))
    assert (batch.targets[:, :4] == IGNORE).all()
    assert torch.equal(batch.targets[:, 4:], batch.ids[:, 4:] + 1)


MAKERS = {
    "documents": lambda: DocumentBatches([[i] * (i % 7) for i in range(30)], 4, END, seed=5, max_length=5),
    "windows": lambda: WindowBatches(torch.arange(300), 4, 10, seed=5),
    "windows by stride": lambda: WindowBatches(torch.arange(300), 4, 10, seed=5, stride=9),
}


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("stop", [0, 3, 7, 8, 9, 20])
def test_a_place_in_the_data_survives_json_and_is_found_again(name, stop):
    batches = MAKERS[name]()
    for _ in range(stop):
        next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    expected = [next(batches) for _ in range(12)]
    again = MAKERS[name]()
    again.load_state_dict(state)
    for one, two in zip(expected, [next(again) for _ in range(12)], strict=True):
        assert torch.equal(one.ids, two.ids)
        assert torch.equal(one.targets, two.targets)


def test_other_data_is_not_gone_on_with():
    state = WindowBatches(torch.arange(300), 4, 10).state_dict()
    with pytest.raises(ValueError, match="tokens was 300 and is 301"):
        WindowBatches(torch.arange(301), 4, 10).load_state_dict(state)
    with pytest.raises(ValueError, match="checksum was"):
        WindowBatches(torch.arange(300).flip(0), 4, 10).load_state_dict(state)
    state = DocumentBatches([[1], [2]], 2, END).state_dict()
    with pytest.raises(ValueError, match="batch_size was 2 and is 1"):
        DocumentBatches([[1], [2]], 1, END).load_state_dict(state)


def test_a_large_file_is_not_read_into_memory(tmp_path):
    """A sparse file of 8 GB, more than a test may hold, whose size costs nothing."""
    path = tmp_path / "tokens.bin"
    with path.open("wb") as file:
        file.truncate(8_000_000_000)
    batches = WindowBatches(open_tokens(path, vocab_size=1000), 8, 64)
    assert next(batches).ids.shape == (8, 64)
    assert isinstance(batches.tokens, np.memmap)
    assert len(batches) == 3_999_999_999 // 512


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WindowBatches(torch.arange(8), 2, 8), "8 tokens hold no window of 8"),
        (lambda: WindowBatches(torch.arange(8), 0, 2), "batch_size = 0"),
        (lambda: WindowBatches(torch.arange(8), 1, 2, skip=2), "skip = 2"),
        (lambda: WindowBatches(torch.arange(8), 1, 2, stride=0), "stride = 0"),
        (lambda: DocumentBatches([], 2, END), "no documents"),
    ],
)
def test_what_gives_no_batch_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
