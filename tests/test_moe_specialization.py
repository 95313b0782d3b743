"""Information between experts and labels: exact where it is known, above chance only where there is something to know."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilm.moe.specialization import expert_entropy, label_information, mutual_information
from minilm.recorded import recorded_experiment


def independent(tokens: int, experts: int, labels: int, k: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randint(experts, (tokens, k), generator=random),
        torch.randint(labels, (tokens,), generator=random),
    )


def test_an_expert_for_each_label_says_it_all() -> None:
    labels = torch.arange(400) % 4
    assert mutual_information(labels[:, None], labels) == pytest.approx(2)
    assert mutual_information(labels[:, None] // 2, labels) == pytest.approx(1)  # two labels share an expert
    assert mutual_information(torch.zeros(400, 1, dtype=torch.long), labels) == 0


def test_one_of_two_experts_that_knows_gives_what_the_table_says() -> None:
    # The first expert is the label, the second always 0: of the label 1 half the choices are expert 1.
    labels = torch.arange(100) % 2
    experts = torch.stack([labels, torch.zeros_like(labels)], dim=1)

    def entropy(*shares: float) -> float:
        return -sum(p * math.log2(p) for p in shares if p)

    expected = entropy(0.75, 0.25) - 0.5 * entropy(1.0) - 0.5 * entropy(0.5, 0.5)
    assert mutual_information(experts, labels) == pytest.approx(expected)
    assert expert_entropy(experts) == pytest.approx(entropy(0.75, 0.25))


@given(st.integers(2, 8), st.integers(2, 6), st.integers(1, 2), st.integers(0, 99))
def test_bounds_and_symmetry(experts: int, labels: int, k: int, seed: int) -> None:
    chosen, told = independent(200, experts, labels, k, seed)
    bits = mutual_information(chosen, told)
    assert 0 <= bits <= min(expert_entropy(chosen), expert_entropy(told[:, None])) + 1e-9
    if k == 1:
        assert bits == pytest.approx(mutual_information(told[:, None], chosen[:, 0]), abs=1e-9)


def test_chance_is_as_large_as_theory_says_and_is_found_as_rarely_as_promised() -> None:
    trials = [label_information(*independent(1000, 8, 4, seed=seed), permutations=60, seed=seed) for seed in range(60)]
    expected = 7 * 3 / (2 * 1000 * math.log(2))
    assert sum(each.chance for each in trials) / 60 == pytest.approx(expected, rel=0.1)
    assert (
        sum(each.found for each in trials) <= 9
    )  # 5 %: 3 of 60 expected, 10 or more in less than 1 of 1,000 such tests


def test_what_is_known_is_found() -> None:
    experts, labels = independent(1000, 8, 2)
    experts = torch.where(
        (torch.rand(1000, generator=torch.Generator().manual_seed(1)) < 0.3)[:, None], labels[:, None], experts
    )
    found = label_information(experts, labels)
    assert found.found
    assert found.above_chance > 0.03


def test_texts_swap_labels_whole() -> None:
    # Experts know the text and nothing else; labels were dealt to texts at random. Swapping tokens, one would find "knowledge".
    text = torch.arange(1200) // 40
    labels = torch.randint(2, (30,), generator=torch.Generator().manual_seed(0))[text]
    experts = (text % 8)[:, None]
    assert label_information(experts, labels).found
    assert not label_information(experts, labels, owner=text).found


def test_what_another_label_explains_is_not_counted_twice() -> None:
    # Each language has plots of its own, and the experts know the language only.
    language = torch.arange(1200) // 600
    plot = 2 * language + torch.randint(2, (1200,), generator=torch.Generator().manual_seed(0))
    experts = language[:, None]
    assert label_information(experts, plot).above_chance > 0.9
    told = label_information(experts, plot, given=language)
    assert told.bits == pytest.approx(0, abs=1e-9)
    assert not told.found


def test_what_is_known_in_one_language_only_counts_by_its_share() -> None:
    language = (torch.arange(1200) >= 900).long()  # a quarter is in the second
    plot = torch.arange(1200) % 2
    experts = (plot * language)[:, None]
    assert label_information(experts, plot, given=language).bits == pytest.approx(0.25)


def test_a_text_with_two_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="the same label"):
        label_information(torch.zeros(4, 1, dtype=torch.long), [0, 1, 1, 1], owner=[0, 0, 1, 1])


def test_unknown_record_is_named() -> None:
    with pytest.raises(ValueError, match="no recorded experiment 'moe_balanse'"):
        recorded_experiment("moe_balanse")
