"""Exercises that talk back: `check` an answer, ask for a `hint`, see your `progress`; `show` figures, and compare a training curve with a `recorded_band`.

After `import minilm.course`, `from my import name` gives the learner's own passing answers.
"""

from minilm.course.bands import recorded_band
from minilm.course.checking import check
from minilm.course.figures import show
from minilm.course.hints import hint
from minilm.course.my import install
from minilm.course.records import progress

__all__ = ["check", "hint", "progress", "recorded_band", "show"]

install()
