"""Facts: known bits, names that tell everybody apart, and a count of stored bits that knowing and not knowing agree with."""

import doctest
import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.data import facts as module
from minilm.data.facts import Facts
from minilm.data.windows import IGNORE
from minilm.training import WindowBatches


@given(people=st.integers(1, 300), attributes=st.integers(1, 6), values=st.integers(2, 40), seed=st.integers(0, 5))
def test_records_hold_names_and_facts(people: int, attributes: int, values: int, seed: int) -> None:
    facts = Facts(people, attributes, values, seed)
    records = facts.records
    assert records.shape == (people, facts.length)
    assert len({(first, last) for first, last in records[:, :2].tolist()}) == people
    first, last, told = records[:, 0], records[:, 1], records[:, 2:]
    assert first.max() < facts.names <= last.min()
    assert last.max() < 2 * facts.names <= told.min()
    assert told.max() < facts.vocab_size == 2 * facts.names + values
    assert np.array_equal(told - 2 * facts.names, facts.table)
    assert (facts.names - 1) ** 2 < people <= facts.names**2  # no more names than are needed
    assert facts.bits == pytest.approx(people * attributes * math.log2(values))


def test_the_same_seed_gives_the_same_facts_everywhere() -> None:
    digest = hashlib.sha256(Facts(100, 8, 16).table.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "6748f3428367605d"
    assert not np.array_equal(Facts(100, 8, 16, seed=1).table, Facts(100, 8, 16).table)


def test_facts_are_even_and_tell_nothing_about_one_another() -> None:
    table = Facts(4000, 2, 4).table
    expected = 4000 / 16
    counts = Counter(map(tuple, table.tolist()))
    assert len(counts) == 16
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 37.7  # 15 degrees of freedom: above in 1 of 1,000 seeds


def test_training_reads_every_person_once_and_learns_the_values_only() -> None:
    facts = Facts(10, 3, 5)
    batches = WindowBatches(facts.tokens(), 4, facts.length - 1, stride=facts.length, skip=1)
    assert len(batches) == 3
    seen = [next(batches) for _ in range(3)]
    rows = [(*ids, last) for b in seen for ids, last in zip(b.ids.tolist(), b.targets[:, -1].tolist(), strict=True)]
    assert sorted(rows) == sorted(map(tuple, facts.records.tolist()))
    for batch in seen:
        assert (batch.targets[:, 0] == IGNORE).all()
        assert batch.targets[:, 1:].min() >= 2 * facts.names


def test_stored_bits() -> None:
    facts = Facts(50, 4, 16)
    assert facts.bits == 800
    assert facts.stored_bits(0.0) == facts.bits  # knows everything
    assert facts.stored_bits(math.log(16)) == pytest.approx(0)  # guesses
    # Knows half of the facts for sure and guesses the others.
    assert facts.stored_bits(math.log(16) / 2) == pytest.approx(400)
    # Knows of every fact that it is one of two values.
    assert facts.stored_bits(math.log(2)) == pytest.approx(600)


def test_names_can_be_read_aloud_and_tell_everybody_apart() -> None:
    facts = Facts(2500, 1, 2)
    names = {facts.say(person).split(" knows")[0] for person in range(2500)}
    assert len(names) == 2500
    assert all(name.replace(" ", "").isalpha() for name in names)


@pytest.mark.parametrize(("changes", "message"), [({"people": 0}, "Facts.people = 0"), ({"values": 1}, "at least 2")])
def test_bad_sizes_are_named(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Facts(**({"people": 2, "attributes": 2, "values": 2} | changes))


def test_examples_in_the_documentation() -> None:
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0
