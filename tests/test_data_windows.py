from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilm.data.windows import (
    IGNORE,
    InferenceContext,
    augment_training_dataset,
    build_multi_token_prediction_dataset,
    build_single_token_prediction_dataset,
    get_batch,
    open_tokens,
    pack,
    shuffle_training_dataset,
    token_dtype,
    token_windows,
    write_tokens,
)


class TestTokenWindows:
    @given(n=st.integers(2, 40), length=st.integers(1, 12), stride=st.integers(1, 15))
    def test_every_window_by_hand(self, n: int, length: int, stride: int) -> None:
        text = list(range(100, 100 + n))
        if n <= length:
            with pytest.raises(ValueError, match=f"{n} tokens has no window of {length}"):
                token_windows(text, length, stride)
            return
        inputs, targets = token_windows(text, length, stride)
        starts = range(0, n - length, stride)
        assert inputs.tolist() == [text[s : s + length] for s in starts]
        assert targets.tolist() == [text[s + 1 : s + length + 1] for s in starts]

    @given(n=st.integers(2, 30), length=st.integers(1, 8), stride=st.integers(1, 9))
    def test_left_padding_shows_every_beginning(self, n: int, length: int, stride: int) -> None:
        text = list(range(100, 100 + n))
        inputs, targets = token_windows(text, length, stride, left_pad=0)
        padded, shifted = [0] * (length - 1) + text[:-1], [IGNORE] * (length - 1) + text[1:]
        starts = range(0, n - 1, stride)
        assert inputs.tolist() == [padded[s : s + length] for s in starts]
        assert targets.tolist() == [shifted[s : s + length] for s in starts]

    def test_windows_do_not_share_memory(self) -> None:
        inputs, _ = token_windows(range(10), 4)  # type: ignore[arg-type]
        inputs[0, 1] = 99
        assert inputs[1, 0] == 1

    def test_bad_sizes_are_named(self) -> None:
        with pytest.raises(ValueError, match="stride = 0"):
            token_windows([1, 2, 3], 1, stride=0)


class TestTokenFiles:
    def test_width_follows_the_vocabulary(self) -> None:
        assert token_dtype(65_536) == np.uint16
        assert token_dtype(65_537) == np.uint32
        with pytest.raises(ValueError, match="vocab_size = 0"):
            token_dtype(0)

    @pytest.mark.parametrize("vocab_size", [300, 65_536, 65_537, 2**32])
    def test_round_trip_to_the_largest_id(self, tmp_path: Path, vocab_size: int) -> None:
        chunks = [[0, 1, vocab_size - 1], [], [5]]
        assert write_tokens(tmp_path / "t.bin", chunks, vocab_size) == 4
        tokens = open_tokens(tmp_path / "t.bin", vocab_size)
        assert tokens.tolist() == [0, 1, vocab_size - 1, 5]
        assert tokens.dtype == token_dtype(vocab_size)

    def test_a_failed_write_leaves_nothing_and_keeps_the_old(self, tmp_path: Path) -> None:
        path = tmp_path / "t.bin"
        write_tokens(path, [[1, 2]], 300)
        with pytest.raises(ValueError, match=r"token id 300 is outside 0 \.\. 299"):
            write_tokens(path, [[3], [300]], 300)
        assert open_tokens(path, 300).tolist() == [1, 2]
        assert [p.name for p in tmp_path.iterdir()] == ["t.bin"]

    def test_damaged_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty.bin").touch()
        (tmp_path / "odd.bin").write_bytes(b"abc")
        with pytest.raises(ValueError, match=r"empty\.bin is empty"):
            open_tokens(tmp_path / "empty.bin", 300)
        with pytest.raises(ValueError, match="3 bytes, not a multiple of 2"):
            open_tokens(tmp_path / "odd.bin", 300)


class TestGetBatch:
    @pytest.mark.parametrize("source", ["file", "tensor"])
    def test_targets_are_one_ahead_and_all_starts_are_drawn(self, tmp_path: Path, source: str) -> None:
        write_tokens(tmp_path / "t.bin", [range(60_000, 60_012)], 65_536)  # above int16: a signed read would show
        tokens = open_tokens(tmp_path / "t.bin", 65_536)
        data = torch.arange(60_000, 60_012) if source == "tensor" else tokens
        x, y = get_batch(data, 4000, 4, torch.Generator().manual_seed(0))
        assert x.dtype == y.dtype == torch.long
        assert torch.equal(y, x + 1)
        counts = Counter((x[:, 0] - 60_000).tolist())
        assert set(counts) == set(range(8))  # 12 tokens, windows of 4 + 1: starts 0 .. 7
        expected = 4000 / 8
        chi2 = sum((n - expected) ** 2 / expected for n in counts.values())
        assert chi2 < 24.3  # 0.1 % point of chi-squared with 7 degrees of freedom

    def test_same_generator_same_windows(self) -> None:
        data = torch.arange(1000)
        a, _ = get_batch(data, 8, 16, torch.Generator().manual_seed(3))
        b, _ = get_batch(data, 8, 16, torch.Generator().manual_seed(3))
        assert torch.equal(a, b)

    def test_file_and_tensor_agree(self, tmp_path: Path) -> None:
        write_tokens(tmp_path / "t.bin", [range(100)], 300)
        a = get_batch(open_tokens(tmp_path / "t.bin", 300), 8, 16, torch.Generator().manual_seed(3))
        b = get_batch(torch.arange(100), 8, 16, torch.Generator().manual_seed(3))
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])

    def test_too_short_names_the_fix(self) -> None:
        with pytest.raises(ValueError, match=r"5 tokens hold no window of 5.*length <= 4"):
            get_batch(torch.arange(5), 1, 5)


class TestPack:
    def test_by_hand(self) -> None:
        packed = pack([[1, 2, 3], [4, 5], [6, 7, 8]], length=4, end_id=9)
        assert packed.inputs.tolist() == [[1, 2, 3, 9], [4, 5, 9, 6], [7, 8, 9, 0]]
        assert packed.targets.tolist() == [[2, 3, 9, -100], [5, 9, -100, 7], [8, 9, -100, -100]]
        assert packed.documents.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, -1]]
        assert packed.positions.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 2, 0]]
        assert packed.boundaries.int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 0]]

    @given(
        documents=st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=8).filter(any),
        length=st.integers(1, 6),
    )
    def test_nothing_is_lost_and_no_target_crosses_a_boundary(self, documents: list[list[int]], length: int) -> None:
        packed = pack(documents, length)
        real = packed.documents >= 0
        assert packed.inputs[real].tolist() == [token for document in documents for token in document]
        expected = [t for d in documents if d for t in (*d[1:], IGNORE)]
        assert packed.targets[real].tolist() == expected
        assert (packed.targets[~real] == IGNORE).all()
        # numbers never fall within a window, and positions start anew exactly where they rise
        for numbers, places in zip(packed.documents.tolist(), packed.positions.tolist(), strict=True):
            for i in range(1, length):
                if numbers[i] >= 0:
                    assert places[i] == (places[i - 1] + 1 if numbers[i] == numbers[i - 1] else 0)

    def test_nothing_to_pack(self) -> None:
        with pytest.raises(ValueError, match="nothing to pack"):
            pack([[], []], 4)


class TestDlib:
    @given(n=st.integers(0, 12), window=st.integers(1, 6))
    def test_counts_without_and_with_padding(self, n: int, window: int) -> None:
        sequence = list(range(1, n + 1))
        samples, labels = build_single_token_prediction_dataset([sequence], window)
        assert len(samples) == len(labels) == max(n - window, 0)
        assert samples == [sequence[p : p + window] for p in range(max(n - window, 0))]
        assert labels == sequence[window:]
        padded, more = build_single_token_prediction_dataset([sequence], window, pad_id=0, left_pad=True)
        if n > window:
            assert len(padded) == len(samples) + window - 1
        assert more == sequence[1:]  # every token but the first is a label, once
        assert [s[-1] for s in padded] == sequence[:-1]
        assert all(len(s) == window for s in padded)

    def test_multi_token_labels(self) -> None:
        samples, labels = build_multi_token_prediction_dataset([[1, 2, 3, 4, 5]], 2, 2, pad_id=0, left_pad=True)
        assert samples == [[0, 1], [1, 2], [2, 3], [3, 4]]
        assert labels == [[2, 3], [3, 4], [4, 5], [5, 0]]

    def test_shuffle_keeps_pairs_and_repeats_itself(self) -> None:
        samples, labels = [[i] for i in range(50)], [10 * i for i in range(50)]
        shuffle_training_dataset(samples, labels, seed=0)
        assert sorted(labels) == [10 * i for i in range(50)] != labels
        assert all(label == 10 * sample[0] for sample, label in zip(samples, labels, strict=True))
        again = list(range(50))
        shuffle_training_dataset(again, list(range(50)), seed=0)
        assert again == [s[0] for s in samples]

    def test_shuffle_is_uniform(self) -> None:
        orders = Counter()  # type: ignore[var-annotated]
        for seed in range(6000):
            items = [0, 1, 2]
            shuffle_training_dataset(items, [0, 1, 2], seed)
            orders[tuple(items)] += 1
        assert len(orders) == 6
        assert sum((n - 1000) ** 2 / 1000 for n in orders.values()) < 20.6  # 0.1 % point, 5 degrees of freedom

    @given(ratio=st.floats(0, 2), n=st.integers(1, 30), low=st.integers(1, 3), extra=st.integers(0, 4))
    def test_augment(self, ratio: float, n: int, low: int, extra: int) -> None:
        pad, unk, width = 0, 99, 10
        samples = [[pad] * (i % width) + list(range(1, width - i % width + 1)) for i in range(n)]
        before, labels = [list(s) for s in samples], list(range(n))
        augment_training_dataset(samples, labels, unk, pad, ratio, low, low + extra)
        assert samples[:n] == before
        assert len(samples) == len(labels) == n + int(n * ratio)
        for copy, label in zip(samples[n:], labels[n:], strict=True):
            changed = [i for i in range(width) if copy[i] != before[label][i]]
            valid = sum(token != pad for token in before[label])
            limit = max(1, int(valid * 0.3))
            assert all(copy[i] == unk and before[label][i] != pad for i in changed)
            assert min(low, limit) <= len(changed) <= min(low + extra, limit)

    def test_augment_leaves_padding_and_refuses_bad_ratios(self) -> None:
        samples, labels = [[0, 0]], [1]
        augment_training_dataset(samples, labels, 9, 0, ratio=2.0)
        assert samples == [[0, 0]] * 3
        with pytest.raises(ValueError, match=r"ratio = 2\.5"):
            augment_training_dataset(samples, labels, 9, 0, ratio=2.5)
        with pytest.raises(ValueError, match="1 samples and 2 labels"):
            augment_training_dataset([[1]], [1, 2], 9, 0)

    def test_inference_context(self) -> None:
        context = InferenceContext(window=3, multiplier=2, pad_id=0)
        assert context.get_input_window() == [0, 0, 0]
        context.add([1])
        assert context.get_input_window() == [0, 0, 1]
        context.add(range(2, 10))
        assert context.get_input_window() == [7, 8, 9]
        assert len(context) == 6  # window * multiplier; older tokens have left
