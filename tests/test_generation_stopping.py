"""Text out of tokens, and the rules that end it."""

import functools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.generation import ConfidenceStop, ConfidenceWatch, TextOut, confidence
from minilm.tokenizer import BPETokenizer, ByteTokenizer

many = settings(deadline=None, max_examples=200)


def written(ids: list[int], stop_strings: tuple[str, ...] = (), tokenizer: ByteTokenizer | None = None) -> list[str]:
    """The pieces, the last of them that of `finish`."""
    out = TextOut(tokenizer or ByteTokenizer(["<end>"]), stop_strings)
    pieces = []
    for token in ids:
        pieces.append(out.add(token))
        if out.stopped_by is not None:
            break
    return [*pieces, out.finish()]


@functools.cache
def letters() -> BPETokenizer:
    """Tokens of one to four letters a, b, c."""
    return BPETokenizer.train(["abcabcaabbccacb" * 3], 264, pre_tokenizer=None)


class TestTextOut:
    @many
    @given(st.lists(st.integers(0, 256)))
    def test_pieces_join_to_what_decode_gives(self, ids: list[int]) -> None:
        """Whatever the bytes are: broken characters come out as decode shows them."""
        assert "".join(written(ids)) == ByteTokenizer(["<end>"]).decode(ids)

    @many
    @given(st.text())
    def test_no_piece_cuts_a_character(self, text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        pieces = written(list(text.encode()))
        assert "".join(pieces) == text
        assert all("�" not in piece for piece in pieces) or "�" in text

    def test_an_unfinished_character_waits_and_is_shown_at_the_end(self) -> None:
        assert written(list("aé".encode())) == ["a", "", "é", ""]
        assert written(list("a🙂".encode()[:-1])) == ["a", "", "", "", "�"]

    @many
    @given(
        st.text("abc", max_size=30),
        st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    )
    @example("aabcab", ["abca", "bc"])
    def test_stop_strings_across_tokens(self, text: str, stops: list[str]) -> None:
        """Against the plain search in the whole text: tokens of one to three letters, stop strings that overlap and share beginnings."""
        tokenizer = letters()
        ids = tokenizer.encode(text)
        places = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
        expected = text[: min(places)[1]] if places else text
        pieces = written(ids, tuple(stops), tokenizer)
        assert "".join(pieces) == expected
        so_far = ""
        for piece in pieces:
            so_far += piece
            assert expected.startswith(so_far)  # nothing is shown that must be taken back

    def test_the_stop_string_that_comes_first_counts(self) -> None:
        out = TextOut(ByteTokenizer(), ["END", "\n\n", "ND"])
        assert "".join(out.add(byte) for byte in b"once E\n\n") == "once E"
        assert out.stopped_by == "\n\n"

    def test_what_might_have_been_a_stop_string_is_shown_after_all(self) -> None:
        assert written(list(b"a<en"), ("<end>",)) == ["a", "", "", "", "<en"]
        assert written(list(b"<<e<end>"), ("<end>",))[-2:] == ["", ""]
        assert "".join(written(list(b"<<e<end>"), ("<end>",))) == "<<e"


class TestConfidence:
    def test_top1_and_entropy(self) -> None:
        probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
        assert confidence(probs.log()).item() == pytest.approx(0.5)
        assert confidence(probs.log(), "entropy").item() == pytest.approx(1 - 1.75 / 2)

    def test_extremes(self) -> None:
        certain, alike = torch.tensor([-math.inf, 3.0, -math.inf]), torch.zeros(3)
        assert confidence(certain).item() == confidence(certain, "entropy").item() == 1
        assert confidence(alike).item() == pytest.approx(1 / 3)
        assert confidence(alike, "entropy").item() == pytest.approx(0, abs=1e-6)
        assert confidence(torch.zeros(2, 1), "entropy").tolist() == [1, 1]

    def test_logits_of_any_shift_and_shape(self) -> None:
        logits = torch.randn(2, 3, 9)
        for measure in ("top1", "entropy"):
            torch.testing.assert_close(
                confidence(logits, measure), confidence(logits + 50, measure), rtol=1e-4, atol=1e-5
            )
        assert confidence(logits).shape == (2, 3)
        with pytest.raises(ValueError, match="measure = 'mean': choose"):
            confidence(logits, "mean")  # type: ignore[arg-type]


def stops_after(rule: ConfidenceStop, confidences: list[float]) -> int | None:
    """After how many tokens the rule stops."""
    watch = ConfidenceWatch(rule)
    return next((t for t, c in enumerate(confidences, 1) if watch.should_stop(c)), None)


class TestConfidenceStop:
    @many
    @given(st.lists(st.floats(0, 1), min_size=40, max_size=40), st.integers(1, 5), st.integers(1, 20))
    def test_threshold_0_never_stops(self, confidences: list[float], patience: int, least: int) -> None:
        assert stops_after(ConfidenceStop(0, patience, min_new_tokens=least), confidences) is None

    @many
    @given(st.lists(st.floats(0, 1), min_size=40, max_size=40), st.integers(1, 5), st.integers(1, 20))
    def test_threshold_1_stops_at_min_new_tokens(self, confidences: list[float], patience: int, least: int) -> None:
        assert stops_after(ConfidenceStop(1, patience, min_new_tokens=least), confidences) == least

    @pytest.mark.parametrize("patience", [1, 2, 7])
    @pytest.mark.parametrize("least", [1, 2, 9])
    @pytest.mark.parametrize("measure", ["top1", "entropy"])
    def test_uniform_logits_stop_at_min_new_tokens_plus_patience_minus_1(self, patience, least, measure) -> None:
        sure = confidence(torch.zeros(50), measure).item()
        rule = ConfidenceStop(0.3, patience, min_new_tokens=least, measure=measure)
        assert stops_after(rule, [sure] * 40) == least + patience - 1

    def test_smoothed_by_hand(self) -> None:
        """0.9, then 0.1s: smoothed 0.9, 0.74, 0.612, 0.5096, 0.42768 ...; below 0.5 from the fifth token on."""
        confidences = [0.9] + [0.1] * 9
        assert stops_after(ConfidenceStop(0.5, 1, 0.8, 1), confidences) == 5
        assert stops_after(ConfidenceStop(0.5, 3, 0.8, 1), confidences) == 7
        assert stops_after(ConfidenceStop(0.5, 1, 0.0, 1), confidences) == 2

    def test_patience_starts_anew_when_confidence_comes_back(self) -> None:
        rule = ConfidenceStop(0.5, patience=3, smoothing=0.0, min_new_tokens=1)
        assert stops_after(rule, [0.1, 0.1, 0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]) == 9

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"threshold": 1.5}, "threshold = 1.5"),
            ({"threshold": math.nan}, "threshold = nan"),
            ({"threshold": 0.5, "patience": 0}, "patience = 0"),
            ({"threshold": 0.5, "min_new_tokens": 0}, "min_new_tokens = 0"),
            ({"threshold": 0.5, "smoothing": 1.0}, "smoothing = 1.0"),
            ({"threshold": 0.5, "measure": "mean"}, "measure = 'mean'"),
        ],
    )
    def test_bad_values_are_named(self, values, message) -> None:
        with pytest.raises(ValueError, match=message):
            ConfidenceStop(**values)
