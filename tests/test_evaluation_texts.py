"""Similarity and byte-exact verification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.evaluation import (
    EvaluationError,
    compare_texts,
    edit_distance,
    edit_similarity,
    ngram_similarity,
    overlap,
    verify,
)
from tests.oracles import BYTES, END_ID, Memoriser

SHORT = st.lists(st.integers(0, 3), max_size=9)


def plain_distance(a, b):
    """Levenshtein's table, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


@given(SHORT, SHORT)
def test_edit_distance_is_levenshteins(a, b):
    assert edit_distance(a, b) == plain_distance(a, b) == edit_distance(b, a)


@given(SHORT, SHORT, SHORT)
def test_edit_distance_is_a_distance(a, b, c):
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)


def test_the_report_by_hand():
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("", "") == 1
    found = overlap(["the", "cat", "sat", "on", "the", "mat"], ["the", "the", "the", "cat"])
    assert (found.precision, found.recall) == (3 / 4, 3 / 6)  # "the" counts twice, as in the reference
    assert found.f1 == pytest.approx(0.6)
    # a b c d e against a b x d: 3 of 4 ones, 1 of 3 pairs, no threes, no four; no penalty for being short
    assert ngram_similarity("abcde", "abxd") == pytest.approx((3 / 4 + 1 / 3 + 0 + 0) / 4)
    assert ngram_similarity("ab", "aaab", longest=1) == 2 / 4  # a second and third "a" are not in the reference
    assert ngram_similarity("abcde", "ab") == 1
    assert ngram_similarity("abc", "") == 0
    assert overlap("", "a").f1 == 0


@given(SHORT, SHORT)
def test_everything_lies_between_nothing_and_equal(a, b):
    report = compare_texts(a, b)
    values = (report.edit, report.overlap.precision, report.overlap.recall, report.overlap.f1, report.ngram)
    assert all(0 <= value <= 1 for value in values)
    equal = compare_texts(a, a)
    assert (equal.edit, equal.overlap.f1, equal.ngram) == (1, 1, 1)


# --------------------------------------------------------------------------------------------------------- verification

TEXT = "When shall we three meet again? In thunder, lightning, or in rain? À bientôt."
IDS = BYTES.encode(TEXT)


def test_a_memoriser_is_found_exact_to_the_last_byte():
    found = verify(Memoriser(IDS), BYTES, TEXT, 10)
    assert found.exact
    assert found.share == 1
    assert (found.prompt_bytes, found.right_bytes, found.text_bytes) == (10, len(IDS) - 10, len(IDS))
    assert "byte for byte" in str(found)
    assert verify(Memoriser(IDS), BYTES, TEXT).prompt_bytes == 16  # the context length


@pytest.mark.parametrize("place", [10, 33, len(IDS) - 12])
def test_the_first_wrong_byte_is_told(place):
    found = verify(Memoriser(IDS, wrong_at=place), BYTES, TEXT, 10)
    assert not found.exact
    assert found.place == place
    assert found.right_bytes == place - 10
    assert found.similarity is None
    assert f"departs at byte {place}" in str(found)


def test_a_wrong_byte_within_a_character_is_told():
    place = TEXT.encode().index("ô".encode()) + 1
    assert verify(Memoriser(IDS, wrong_at=place), BYTES, TEXT, 10).place == place


def test_with_whole_everything_is_written_and_compared():
    found = verify(Memoriser(IDS, wrong_at=60), BYTES, TEXT, 10, whole=True)
    assert found.place == 60
    assert 0.5 < found.similarity.edit < 1
    assert "edit similarity" in str(found)


def test_a_model_that_ends_the_text_too_early_departs_there():
    ids = [*IDS[:30], END_ID, *IDS[31:]]
    found = verify(Memoriser(ids), BYTES, TEXT, 10)
    assert found.place == 30


def test_a_text_without_a_rest_is_refused():
    with pytest.raises(EvaluationError, match="nothing is left to write"):
        verify(Memoriser(IDS), BYTES, TEXT, len(IDS))
    with pytest.raises(EvaluationError, match="at least one token"):
        verify(Memoriser(IDS), BYTES, TEXT, 0)
