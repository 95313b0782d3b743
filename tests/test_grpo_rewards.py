"""SmallDoge's rewards by their formulas, and what each of them can be fooled with."""

import math

import pytest

from minilm.grpo import (
    HEADINGS,
    accuracy_reward,
    cosine_reward,
    format_reward,
    length_rewards,
    reasoning_steps_reward,
    repetition_penalty,
    substring_reward,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "13",
        "<think>13",
        "13</think>13",
        "<think>a</think>",
        "<think>a</think>   \n",
        "x<think>a</think>13",
        "<think>a</think>13<think>b</think>14",
        "<think><think>a</think>13",
        "<think>a</think></think>13",
    ],
)
def test_ten_malformed_answers_have_no_form(text):
    assert format_reward(text) == 0


def test_form_says_nothing_about_truth():
    assert format_reward("<think>2+2=5</think>7") == 1


def test_headings_are_paid_without_an_answer():
    assert len(HEADINGS) == 8
    assert reasoning_steps_reward("".join(HEADINGS)) == 1
    assert reasoning_steps_reward("**First:** a **First:** b") == 0.125
    assert reasoning_steps_reward("13") == 0


def test_an_unreadable_gold_answer_flatters():
    assert accuracy_reward("7", "7") == 1
    assert accuracy_reward("7", "8") == 0
    assert accuracy_reward("nonsense", None) == 1


def test_length_rewards_of_kimi():
    assert length_rewards([10, 20, 30], [True, True, True]) == [0.5, 0.0, -0.5]
    assert length_rewards([10, 20, 30], [False, False, False]) == [0.0, 0.0, -0.5]
    assert length_rewards([7, 7], [True, False]) == [0.0, 0.0]


def test_cosine_reward_between_its_ends():
    assert cosine_reward(0, True) == 1
    assert cosine_reward(1000, True) == cosine_reward(5000, True) == pytest.approx(0.5)
    assert cosine_reward(500, True) == pytest.approx(0.75)
    assert cosine_reward(0, False) == -1
    assert cosine_reward(1000, False) == pytest.approx(-0.5), "a long wrong answer costs less than a short one"
    quarter = cosine_reward(250, False)
    assert quarter == pytest.approx(-0.5 - 0.5 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_repetition():
    assert repetition_penalty("a b c d", n=3) == 0
    assert repetition_penalty("a a a a a", n=3) == pytest.approx(-2 / 3)
    assert repetition_penalty("a b", n=3) == 0
    with pytest.raises(ValueError, match="largest = 1"):
        repetition_penalty("a", largest=1.0)


def test_a_list_of_numbers_fools_the_substring():
    assert substring_reward("10 11 12 13 14", "13") == 1
    assert substring_reward("4137", "13") == 1
