"""The ledgers run the lessons' own cells: whatever they need must still be there under its name."""

import pytest

from experiments import attention, definitions


@pytest.mark.slow
def test_the_lesson_gives_the_ledger_what_it_needs():
    names = definitions("03_attention")
    torch = names["torch"]
    torch.manual_seed(0)
    model = names["one_model"](names["ManyHeads"](64, 4))
    curve = names["fit"](model, names["world"].train, steps=30)
    assert sum(curve[-5:]) < 0.7 * sum(curve[:5])
    found = attention.excess(names, model)
    assert set(found) == {"what", "when", "whose"}
    assert min(found.values()) > -0.05  # nobody is below the floor by more than chance
    assert names["honest_loss"](model, names["world"].held[:20]) > names["world"].floor - 0.2
    assert {"Average", "OneHead", "find_the_toy", "easy", "Reader", "losses_of"} <= set(names)


@pytest.mark.slow
def test_without_a_mask_training_goes_below_the_floor_and_writing_is_broken():
    names = definitions("03_attention")
    names["torch"].manual_seed(0)
    model = names["one_model"](names["OneHead"](64, causal=False))
    curve = names["fit"](model, names["world"].train, steps=300)
    assert curve[-1] < names["world"].floor - 0.1
    assert names["honest_loss"](model, names["world"].held[:50]) > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lesson", "needed"),
    [
        ("01_tokenizer", {"characters_per_token"}),
        ("02_embeddings", {"fit", "surprise", "Table", "Bag"}),
        ("04_block", {"train"}),
        ("05_model", {"first_loss", "fit", "bits_a_story", "learn_echoes", "excess", "floor", "rescaled", "windowed"}),
        (
            "06_training",
            {"obvious_try", "gains_after", "deep_trial", "accident", "walk", "leaky", "overfit", "story_run"},
        ),
        (
            "07_generation",
            {"train_model", "story_odds", "many", "are_stories", "two_errors", "SETTINGS", "openness", "where_it_cuts"},
        ),
        (
            "08_evaluation",
            {"learn", "surprises", "true_surprises", "excess", "predictions", "favourites", "ece", "windowed", "score"}
            | {
                "score_with_space",
                "best",
                "questions",
                "write",
                "off_grammar",
                "seen",
                "fresh",
                "config",
                "count_bigrams",
            },
        ),
        (
            "09_moe",
            {"Knower", "Mixture", "SwiGLU", "learn", "stored", "try_way", "WAYS", "unevenness", "with_seats"},
        ),
        (
            "10_dynamic_mask",
            {"waiter", "fit", "exam", "pad", "keep_first", "own_places", "predicted", "PLAIN", "TWINS", "run", "trunk"}
            | {"held_out", "story_rows", "looks_at", "late_loss", "documents", "texts", "tokenizer"},
        ),
        (
            "12_grpo",
            {"task", "drill", "exam", "pupil", "forgetful", "trainer", "is_right", "grade", "answers", "sixteen"}
            | {"pass_curve", "imitate", "newborn", "rows", "hack", "solution_text"},
        ),
        (
            "13_recursion",
            {"train_plain", "train_loops", "in_loops", "when", "QUICK", "LIVE", "easy", "practice", "exam"},
        ),
    ],
)
def test_the_other_lessons_give_their_ledgers_what_they_need(lesson, needed):
    assert needed <= set(definitions(lesson))
