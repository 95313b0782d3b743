"""Records in the field's formats, tasks that are checked exactly, preferences of a known judge."""

import json
import math

import pytest

from minilm.data import conversations, stories
from minilm.data.conversations import BadLine, Chat, Comparison, RecordError, read_chats, read_comparisons
from minilm.data.instructions import ANY_STORY, KINDS, QUESTIONS, instructions
from minilm.data.preferences import (
    REWARDS,
    best_accuracy,
    compare,
    log_loss_floor,
    preferences,
    sigmoid,
    true_order_share,
)

HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


@pytest.fixture
def write(tmp_path):
    """Write lines (objects or raw text) to a file; gives its path."""

    def write(*lines, name="data.jsonl"):
        path = tmp_path / name
        text = [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines]
        path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in text))
        return str(path)

    return write


# --- conversations ---


def test_conversations_are_read_with_their_line_numbers(write):
    path = write({"messages": HELLO}, "", {"messages": HELLO, "source": "somewhere"})
    assert read_chats(path).records == [Chat(1, HELLO), Chat(3, HELLO)]


def test_a_byte_order_mark_and_windows_line_ends_are_nothing(write):
    path = write(b"\xef\xbb\xbf" + json.dumps({"messages": HELLO}).encode() + b"\r")
    assert read_chats(path).records == [Chat(1, HELLO)]


BAD = {
    "nonsense": "is not JSON",
    '{"messages": [': "is not JSON",
    "[]": "is an empty list, not an object",
    "3": "is a number, not an object",
    '{"messages": "Hi"}': "is text, not a list of messages",
    '{"messages": []}': "is an empty list, not a list of messages",
    '{"messages": ["Hi"]}': "message 1 of 'messages' is not {'role'",
    '{"messages": [{"role": "user"}]}': "message 1 of 'messages' is not {'role'",
    '{"messages": [{"role": "the user", "content": "Hi"}]}': "a role is one word",
    '{"messages": [{"role": "user", "content": "Hi"}]}': "no message of the role 'assistant'",
    '{"messages": [{"role": "assistant", "content": null}]}': "is null, not text",
    '{"messages": [{"role": "assistant", "content": ["Hi"]}]}': "is a list, not text",
    '{"messages": [{"role": "assistant", "content": "  "}]}': "is empty",
    '{"messages": [{"role": "assistant", "content": "\\ud800"}]}': "half of a surrogate pair",
    '{"conversations": []}': "looks like ShareGPT's format",
    '{"instruction": "Hi", "output": "Hello!"}': "looks like Alpaca's format",
    '{"chosen": "Hi", "rejected": "Ho"}': "looks like a preference",
}


@pytest.mark.parametrize("line", BAD)
def test_every_bad_line_has_its_reason(write, line):
    found = read_chats(write({"messages": HELLO}, line), on_error="skip")
    assert len(found) == 1
    assert found.bad[0].line == 2
    assert BAD[line] in found.bad[0].reason


def test_a_line_that_is_not_utf_8_is_a_bad_line(write):
    found = read_chats(write({"messages": HELLO}, b'{"messages": "\xff"}'), on_error="skip")
    assert found.bad == [BadLine(2, "it is not UTF-8")]


def test_bad_lines_are_refused_all_at_once(write):
    path = write({"messages": HELLO}, *(["nonsense"] * 7))
    with pytest.raises(
        RecordError, match=r"7 of 8 lines can't be used: line 2: it is not JSON .*line 6.*; and 2 more$"
    ) as info:
        read_chats(path)
    assert [each.line for each in info.value.bad] == list(range(2, 9))
    with pytest.raises(RecordError, match="1 of 1 lines"):
        read_chats(write("nonsense"), on_error="skip")  # nothing is left


def test_files_that_are_no_jsonl_say_so(write, tmp_path):
    with pytest.raises(RecordError, match="one JSON list: write its objects one a line"):
        read_chats(write("[", json.dumps({"messages": HELLO}), "]"))
    with pytest.raises(RecordError, match="holds no records"):
        read_chats(write(""))
    with pytest.raises(RecordError, match="can't be read: No such file"):
        read_chats(tmp_path / "nothing.jsonl")
    with pytest.raises(RecordError, match="Did you mean instructions:easy:2000"):
        read_chats("instruction:easy:5")
    with pytest.raises(ValueError, match="choose 'refuse' or 'skip'"):
        read_chats(write({"messages": HELLO}), on_error="ignore")


# --- preferences ---


def test_preferences_in_all_their_forms_are_one_thing(write):
    user, good, bad = HELLO[:1], HELLO[1:], [{"role": "assistant", "content": "What?"}]
    forms = [
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"},
        {"prompt": user, "chosen": good, "rejected": bad},
        {"prompt": "Hi", "chosen": user + good, "rejected": user + bad},
        {"chosen": user + good, "rejected": user + bad},
    ]
    found = read_comparisons(write(*forms)).records
    assert found == [Comparison(line, user, "Hello!", "What?") for line in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"prompt": "Hi", "chosen": "a"}, "has no 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "has no 'prompt'"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "'prompt' is empty"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "'prompt' is a number"),
        ({"prompt": "Ho", "chosen": HELLO, "rejected": "b"}, "does not begin with the prompt"),
        ({"prompt": HELLO, "chosen": "a", "rejected": "b"}, "ends with an answer already"),
        ({"prompt": "Hi", "chosen": HELLO[:1], "rejected": "b"}, "not 'assistant'"),
    ],
)
def test_every_bad_preference_has_its_reason(write, line, reason):
    good = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    found = read_comparisons(write(good, line), on_error="skip")
    assert [each.line for each in found.bad] == [2]
    assert reason in found.bad[0].reason


# --- by name ---


def test_records_by_name_are_made_and_their_splits_apart():
    train, test = read_chats("instructions:easy:60"), read_chats("instructions:easy:60:test")
    assert len(train) == len(test) == 60
    prompts = [{chat.prompt_text for chat in found} - {ANY_STORY} for found in (train, test)]
    assert not prompts[0] & prompts[1]
    assert all("?" in chat.prompt_text for chat in read_chats("questions:easy:10"))
    assert len(read_comparisons("preferences:easy:10")) == 10


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("instructions:easy:no", "should be instructions:SIZE:NUMBER"),
        ("instructions:easy:5:training", "no split 'training'"),
        ("instructions:esy:5", "Did you mean 'easy'"),
        ("instructions:french:5", "the English ones"),
        ("preferences:easy:5", "wrong kind of data here: use instructions"),
    ],
)
def test_wrong_names_say_what_is_right(name, reason):
    with pytest.raises(RecordError, match=reason):
        read_chats(name)


def test_equal_prompts_are_held_out_together():
    records = read_chats("instructions:easy:300").records
    out = {record.prompt_text for record in records if conversations.held_out(record, 0.2)}
    kept = {record.prompt_text for record in records if not conversations.held_out(record, 0.2)}
    assert not out & kept
    assert 0.1 < len(out) / (len(out) + len(kept)) < 0.3
    pair = Comparison(1, HELLO[:1], "a", "b")
    assert all(
        conversations.held_out(pair, s / 10) == conversations.held_out(Comparison(2, HELLO[:1], "b", "a"), s / 10)
        for s in range(11)
    )


# --- tasks ---


@pytest.mark.parametrize("size", ["easy", "medium", "hard"])
def test_a_tasks_own_answer_is_right(size):
    tasks = instructions(size, 30 if size == "easy" else 12)
    assert {task.kind for task in tasks} == set(KINDS)
    assert all(task.check(task.answer) for task in tasks)
    assert tasks[:6] == instructions(size, 6)  # the same everywhere, whatever the number


def test_every_question_of_the_easy_plots_can_be_asked_and_is_answered_by_its_story():
    tasks = instructions("easy", 600, kinds=("question",), split=None)
    asked = {task.prompt.rpartition(". ")[2].split()[0] for task in tasks}
    assert asked == {"What", "Near", "Which", "Who", "How", "Where"}
    for task in tasks:
        if task.facts[0][0] != "sum":
            assert task.answer in task.prompt
    assert set(QUESTIONS) >= {story.facts["plot"] for _, story in zip(range(60), stories.sample("easy"), strict=False)}


def test_a_sum_is_calculated():
    task = next(t for t in instructions("easy", 500, kinds=("question",)) if t.facts[0][0] == "sum")
    story = stories.grammar("easy").read(task.prompt[: task.prompt.rindex("How many") - 1])
    assert task.facts == (("sum", story.facts["had"] - story.facts["gave"]),)


ATTACKS = [
    "",
    " ",
    "Once there was a girl named Mia.",
    "{answer} {answer}",
    "{answer} The end.",
    "I will tell you: {answer}",
    "{answer}<|im_end|>",
    "{upper}",
    "{short}",
    "Mia, a boat and the park.",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_story_is_not_passed_by_its_form(attack):
    task = instructions("easy", 1, kinds=("story",))[0]
    filled = attack.format(answer=task.answer, upper=task.answer.upper(), short=task.answer[:-1])
    assert not task.check(filled)


def test_another_story_passes_only_if_it_is_about_what_was_asked():
    task = instructions("easy", 1, kinds=("story",))[0]
    others = [story for _, story in zip(range(4000), stories.sample("easy", seed=9), strict=False)]
    asked = [s for s in others if all(s.facts.get(name) == value for name, value in task.facts)]
    assert all(task.check(story.text) for story in asked)
    assert not any(task.check(story.text) for story in others if story not in asked)
    hero = dict(task.facts)["hero"]
    other = "Zoe" if hero != "Zoe" else "Emma"
    assert not task.check(task.answer.replace(str(hero), other))


def test_an_answer_is_right_but_for_capitals_and_a_full_stop():
    task = next(t for t in instructions("easy", 50, kinds=("question",)) if t.facts[0][0] == "color")
    assert task.check(f" {task.answer.title()}. ")
    wrong = "red" if task.answer != "red" else "blue"
    for answer in (
        wrong,
        f"{task.answer} {wrong}",
        f"not {task.answer}",
        f"{wrong}, {task.answer}",
        task.answer + "!",
        "",
    ):
        assert not task.check(answer)


def test_what_is_tested_was_not_trained_on():
    train = instructions("easy", 3000)
    test = instructions("easy", 150, split="test")
    asked = {task.prompt for task in train}
    told = {task.answer for task in train if task.kind != "question"}
    assert not [task for task in test if task.kind != "free" and task.prompt in asked]
    assert not [task for task in test if task.kind != "question" and task.answer in told]


def test_wrong_requests_for_tasks():
    with pytest.raises(ValueError, match="no kind of task 'poem'"):
        instructions("easy", 1, kinds=("poem",))
    with pytest.raises(ValueError, match="at least one kind"):
        instructions("easy", 1, kinds=())
    with pytest.raises(ValueError, match="n must be 0 or more"):
        instructions("easy", -1)
    with pytest.raises(ValueError, match="no split"):
        instructions("easy", 1, split="training")


# --- the judge ---


def test_a_reward_is_its_closed_form():
    text = '"Thank you," said Mia. Mia was happy. Thanks!' + "x" * 140
    assert REWARDS["easy"](text) == pytest.approx(1.0 + 0.5 - 0.02 * (len(text) - 196))
    assert REWARDS["easy"]("") == 0.5  # nothing is short, and not worth more than short
    assert REWARDS["easy"]("x" * 10_000) == -0.5


def test_pairs_carry_their_rewards_and_the_field_does_not_see_them():
    for pair in preferences("easy", 50):
        assert pair.chosen_reward == REWARDS["easy"](pair.chosen)
        assert pair.rejected_reward == REWARDS["easy"](pair.rejected)
        assert set(pair.record) == {"prompt", "chosen", "rejected"}


def test_the_judge_tosses_bradley_and_terrys_coin():
    # 4,000 comparisons of two texts whose rewards differ by 1: the share of wins is sigmoid(1) within four standard errors.
    good, bad = "thank " + "x" * 190, "thinks" + "x" * 190
    pairs = compare([good, bad] * 4000, REWARDS["easy"])
    p = sigmoid(1.0)
    wins = sum(pair.chosen == good for pair in pairs) / 4000
    assert abs(wins - p) < 4 * math.sqrt(p * (1 - p) / 4000)
    assert best_accuracy(pairs) == pytest.approx(p)
    assert log_loss_floor(pairs) == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert true_order_share(pairs) == wins


def test_the_best_accuracy_is_what_the_true_reward_reaches():
    pairs = preferences("easy", 3000)
    expected, reached = best_accuracy(pairs), true_order_share(pairs)
    assert 0.65 < expected < 0.8
    assert abs(reached - expected) < 4 * math.sqrt(0.25 / 3000)
    exact = preferences("easy", 300, temperature=1e-6)
    assert all(pair.margin >= 0 for pair in exact)
    assert best_accuracy(exact, 1e-6) > 0.95  # but for equal rewards, which remain a coin


def test_pairs_of_two_splits_share_no_story():
    train, test = preferences("easy", 2000), preferences("easy", 200, split="test")
    told = {text for pair in train for text in (pair.chosen, pair.rejected)}
    assert not [pair for pair in test if pair.chosen in told or pair.rejected in told]


def test_equal_texts_are_no_comparison_and_errors_are_named():
    assert compare(["a", "a", "a", "b"], REWARDS["easy"])[0].prompt == ANY_STORY
    assert len(compare(["a", "a", "a", "b"], REWARDS["easy"])) == 1
    with pytest.raises(ValueError, match="give an even number"):
        compare(["a"], REWARDS["easy"])
    with pytest.raises(ValueError, match="temperature = 0"):
        compare(["a", "b"], REWARDS["easy"], temperature=0)
    with pytest.raises(ValueError, match="There is no reward for stories of size 'french'"):
        preferences("french", 1)
