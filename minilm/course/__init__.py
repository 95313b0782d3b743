"""Exercises that talk back: `check` an answer, ask for a `hint`, see your `progress`; and `show` figures.

After `import minilm.course`, `from my import name` gives the learner's own passing answers.
"""

from minilm.course.checking import check
from minilm.course.figures import show
from minilm.course.hints import hint
from minilm.course.my import install
from minilm.course.records import progress

__all__ = ["check", "hint", "progress", "show"]

install()
