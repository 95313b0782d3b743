"""Widgets: their state without a browser, what they show, the still picture, and stored notebooks that hold them."""

import base64
import io
import json
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.course.widgets import GuessingGame, MergeStepper, TokenExplorer, Widget
from minilm.course.widgets.base import Chip, chips_to_html, drawable, show_bytes, visible
from minilm.tokenizer import ByteTokenizer, count_pairs, merge_pair

VIEW = "application/vnd.jupyter.widget-view+json"
TAGS = {
    "style",
    "div",
    "section",
    "p",
    "ol",
    "li",
    "bdi",
    "small",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "span",
    "strong",
}
CORPUS = "the cat in the hat sat on the mat and that was that. " * 2


class Letters:
    """A tokenizer of the test's own: one token a character, and no Latin-1, no token."""

    def encode(self, text: str) -> list[int]:
        if not all(ord(character) < 256 for character in text):
            raise ValueError("Letters knows Latin-1 only")
        return [ord(character) for character in text]

    def token_bytes(self, id: int) -> bytes:
        return chr(id).encode("utf-8")


def explorer(text: str = "a café") -> TokenExplorer:
    return TokenExplorer(text, {"bytes": ByteTokenizer(), "letters": Letters()})


def game() -> GuessingGame:
    return GuessingGame("to be or not to be", lambda prefix: {"b": 0.5, "o": 0.25, "n": 0.125, "t": 0.125}, rounds=4)


def stepper() -> MergeStepper:
    return MergeStepper(CORPUS, 12)


WIDGETS = [explorer, stepper, game]


class Page(HTMLParser):
    """What a browser would make of a view: its elements, and its text outside of the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        if self.tags[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def page(widget: Widget) -> Page:
    return Page(widget.view.value)


# --- every widget -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", WIDGETS)
def test_output_holds_a_live_view_a_picture_with_alt_text_and_words(make):
    data, metadata = make()._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data[VIEW]["model_id"]
    assert len(data["text/plain"]) > 30
    assert metadata["image/png"]["alt"] == data["text/plain"]


@pytest.mark.parametrize("make", WIDGETS)
def test_output_is_the_same_at_every_run(make):
    first, second = make()._repr_mimebundle_()[0], make()._repr_mimebundle_()[0]
    assert first["text/plain"] == second["text/plain"]
    assert first["image/png"] == second["image/png"]
    assert " at 0x" not in first["text/plain"]


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (explorer, lambda widget: setattr(widget.text, "value", "another text")),
        (explorer, lambda widget: setattr(widget.below, "value", "bytes")),
        (stepper, lambda widget: setattr(widget.slider, "value", 3)),
        (game, lambda widget: widget.play("x", 0.5)),
    ],
)
def test_a_change_of_state_changes_the_view_and_the_picture(make, change):
    widget = make()
    view, picture = widget.view.value, widget.to_png()
    change(widget)
    assert widget.view.value != view
    assert widget.to_png() != picture


@pytest.mark.parametrize("make", WIDGETS)
def test_pictures_are_not_blank(make):
    pixels = matplotlib.image.imread(io.BytesIO(make().to_png()))[..., :3]
    assert 0.01 < np.mean(pixels.min(axis=-1) < 0.9) < 0.6


@pytest.mark.parametrize("make", WIDGETS)
def test_every_control_can_be_named_and_reached(make):
    """Each control has a description, which ipywidgets ties to it as its label."""

    def controls(widget):
        for child in getattr(widget, "children", ()):
            yield from controls(child)
        if hasattr(widget, "description") and widget is not made.view:
            yield widget

    made = make()
    found = list(controls(made.box))
    assert found
    assert all(control.description for control in found)


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", "<img src=x onerror=y>", "</style><b>", '" onclick="x'])
def test_what_a_user_types_never_becomes_markup(nasty):
    merged = MergeStepper(nasty * 2, 8)
    merged.slider.value = 5
    played = GuessingGame(f"{nasty} {nasty} x", lambda prefix: dict.fromkeys(nasty + " x", 0.02), rounds=3)
    played.play("<", 0.5)
    for widget in (explorer(nasty), TokenExplorer("a", {nasty: ByteTokenizer()}), merged, played):
        shown = page(widget)
        assert set(shown.tags) <= TAGS
        assert shown.attributes <= {"class", "style", "aria-label", "scope", "role"}


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_can_be_shown_and_drawn_without_a_warning(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        widget = explorer(text)
        assert page(widget).tags.count("section") == 2
        widget.to_png()


def test_dollar_signs_are_no_formula():
    game = GuessingGame(r"pay $\bad{5$ now or", lambda prefix: {"n": 0.5, "o": 0.5}, places=(15,))
    assert game.to_png()


# --- small parts ------------------------------------------------------------------------------------------------------


def test_invisible_and_reordering_characters_are_spelled_out():
    assert visible("a b\n\t") == "a·b↵⇥"
    assert visible("a b", spaces=False) == "a b"
    assert visible("\u202e\x00\u00a0\u200b") == "‹202E›‹0›‹A0›‹200B›"
    assert visible("é日🙂") == "é日🙂"


def test_bytes_that_are_part_of_a_character_are_hexadecimal():
    assert show_bytes("é".encode()) == "é"
    assert show_bytes("é".encode()[:1]) == "‹C3›"
    assert show_bytes(b"a\xe2\x82") == "‹61 E2 82›"


def test_characters_missing_in_the_font_are_spelled_out_in_pictures():
    assert drawable("aé✓") == "aé✓"
    assert drawable("日") == "‹65E5›"


def test_a_long_list_of_chips_is_counted_and_not_shown():
    shown = Page(chips_to_html([Chip("x")] * 1_000, "many"))
    assert shown.tags.count("li") == 400
    assert "… and 600 more" in shown.text


# --- token explorer ---------------------------------------------------------------------------------------------------


def test_explorer_shows_tokens_ids_and_figures_of_each_tokenizer():
    widget = explorer("a café")
    bytes_, letters = widget.tokenizations()
    assert letters.ids == (97, 32, 99, 97, 102, 233)
    assert [token.decode() for token in letters.tokens] == ["a", " ", "c", "a", "f", "é"]
    assert bytes_.facts == "7 tokens · 0.86 characters and 1.00 bytes a token"
    assert letters.facts == "6 tokens · 1.00 characters and 1.17 bytes a token"
    text = page(widget).text
    assert "‹C3›" in text
    assert "233" in text
    assert letters.facts in text


def test_explorer_follows_what_is_typed_and_what_is_asked_for():
    widget = explorer("ab")
    widget.text.value = "z"
    assert "122" in page(widget).text
    assert "97" not in page(widget).text
    assert "1 token ·" in page(widget).text
    widget.below.value = "bytes"
    assert "7A" in page(widget).text
    widget.below.value = "nothing"
    assert "7A" not in page(widget).text


def test_explorer_says_why_a_tokenizer_refuses_a_text_and_shows_the_others():
    widget = explorer("日")
    assert "Letters knows Latin-1 only" in page(widget).text
    assert "cannot encode this text" in page(widget).text
    assert "3 tokens" in page(widget).text
    assert "cannot encode" in widget.summary()


def test_explorer_takes_an_empty_text():
    assert "no tokens" in page(explorer("")).text
    assert explorer("").to_png()


def test_explorer_without_tokenizers_is_refused():
    with pytest.raises(ValueError, match="at least one tokenizer"):
        TokenExplorer("a", {})


# --- merge stepper ----------------------------------------------------------------------------------------------------


def test_stepper_segments_the_text_again_at_every_step():
    widget = stepper()
    before: list[int] = []
    for step in range(len(widget.merges) + 1):
        widget.slider.value = step
        ids = widget.ids
        assert b"".join(widget.tokens[id] for id in ids).decode() == CORPUS
        assert "".join(chip.label for chip in widget.text_chips()) == visible(CORPUS)
        assert widget.pairs() == count_pairs(ids)
        assert len(widget.merge_chips()) == step
        if step:
            merge = widget.merges[step - 1]
            assert ids == merge_pair(before, merge.pair, merge.new_id)
            assert merge.count == max(count_pairs(before).values())
            assert {chip.label for chip in widget.text_chips() if chip.strong} == {widget.token(merge.new_id)}
        before = ids  # of the step before, next time round


def test_stepper_keeps_merges_inside_words_where_a_pre_tokenizer_cuts():
    widget = MergeStepper(CORPUS, 12, pre_tokenizer="gpt2")
    widget.slider.value = len(widget.merges)
    assert b"".join(widget.tokens[id] for id in widget.ids).decode() == CORPUS
    assert not any(b" " in token[1:] for token in widget.tokens.values())
    stepped = stepper()
    assert any(b" " in token[1:] for token in stepped.tokens.values())


def test_stepper_frames_the_next_merge_first_in_its_table():
    widget = stepper()
    for step in range(len(widget.merges)):
        widget.slider.value = step
        first = widget.pair_bars()[0]
        assert [chip.label for chip in first.chips] == [widget.token(id) for id in widget.merges[step].pair]
        assert all(chip.strong for chip in first.chips)
        assert not any(chip.strong for bar in widget.pair_bars()[1:] for chip in bar.chips)


def test_steppers_buttons_move_one_merge_and_stop_at_the_ends():
    widget = stepper()
    back, forward = widget.box.children[0].children[1:]
    back.click()
    assert widget.step == 0
    for _ in range(20):
        forward.click()
    assert widget.step == len(widget.merges) == 12
    back.click()
    assert widget.step == 11
    assert "Merge 11:" in page(widget).text


def test_stepper_has_fewer_merges_where_pairs_run_out():
    widget = MergeStepper("aaaa", 50)
    assert len(widget.merges) < 5
    widget.slider.value = widget.slider.max
    assert len(widget.ids) == 1
    assert widget.pair_bars() == []
    assert widget.to_png()


def test_stepper_refuses_nothing_to_train_on():
    with pytest.raises(ValueError, match="empty"):
        MergeStepper("", 3)
    with pytest.raises(ValueError, match="at least one merge"):
        MergeStepper("abc", 0)


# --- guessing game ----------------------------------------------------------------------------------------------------


def test_game_pays_minus_log2_of_the_stake_on_the_truth():
    widget = game()  # alphabet " benort", 7 characters; places are beginnings of words
    assert all(widget.text[place - 1] == " " for place in widget.places)
    truth = widget.text[widget.place]
    widget.play(truth, 0.5)
    assert widget.turns[0].bits == pytest.approx(1)
    wrong = "e"
    widget.play(wrong, 0.5)
    assert widget.turns[1].bits == pytest.approx(3.585, abs=1e-3)  # the other half, shared by 6
    assert widget.turns[1].best_bits in (1, 2, 3)
    assert f"It was '{widget.turns[1].truth}'" in page(widget).text


def test_game_ends_and_starts_again():
    widget = game()
    for _ in range(4):
        widget.guess.value = "o"
        widget.button.click()
    assert widget.over
    assert "The game is over" in page(widget).text
    widget.button.click()
    assert len(widget.turns) == 4
    widget.again.click()
    assert widget.turns == []
    assert "Place 1 of 4" in page(widget).text


@pytest.mark.parametrize(("guess", "confidence"), [("", 0.5), ("ab", 0.5), ("a", 1.0), ("a", 0.0)])
def test_game_explains_a_bad_guess_and_counts_nothing(guess, confidence):
    widget = game()
    widget.play(guess, confidence)
    assert widget.turns == []
    assert widget.trouble in page(widget).text
    assert widget.trouble


def test_game_does_not_tell_the_answer_before_the_guess():
    widget = game()
    assert "true probability" not in page(widget).text
    assert widget.text[widget.place :] not in page(widget).text


def test_game_refuses_places_outside_its_text():
    with pytest.raises(ValueError, match="inside its text of 3 characters"):
        GuessingGame("abc", lambda prefix: {}, places=(7,))


# --- in a notebook ----------------------------------------------------------------------------------------------------


def notebook_with_widgets() -> nbformat.NotebookNode:
    cells = [
        "from minilm.course.widgets import *\nfrom minilm.tokenizer import ByteTokenizer",
        "TokenExplorer('a café 🙂 日本', {'bytes': ByteTokenizer()})",
        "stepper = MergeStepper('the cat in the hat', 5)\nstepper",
        "stepper.slider.value = 3\nstepper",
        "GuessingGame('to be or not to be', lambda prefix: dict.fromkeys(' benort', 1 / 7))",
    ]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    from nbclient import NotebookClient

    notebook = notebook_with_widgets()
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    path = tmp_path_factory.mktemp("widgets") / "widgets.ipynb"
    nbformat.write(notebook, path)
    return path


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "--rootdir", str(path.parent)]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, cwd=path.parent, timeout=300)


def test_a_notebook_with_every_widget_passes_strict_nbval(executed):
    result = nbval(executed)
    assert result.returncode == 0, result.stdout


def test_nbval_notices_a_widget_that_shows_something_else(executed, tmp_path):
    notebook = json.loads(executed.read_text("utf-8"))
    data = notebook["cells"][2]["outputs"][0]["data"]
    data["text/plain"] = [line.replace("merge 0", "merge 1") for line in data["text/plain"]]
    (tmp_path / "changed.ipynb").write_text(json.dumps(notebook), "utf-8")
    assert nbval(tmp_path / "changed.ipynb").returncode == 1
