"""Tasks whose answers can be checked exactly: tell a story about given things, answer a question about a story, tell any story.

They are made from the story grammar (`minilm.data.stories`), which knows every fact of what it tells. A story that was asked
for is right if the grammar can print it and its facts are those that were asked for; an answer is right if it is the fact. Nothing
is judged, and neither can be passed by form alone.

    for task in instructions("easy", 3):
        print(task.prompt, task.answer, task.check(task.answer))
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from minilm.data import stories
from minilm.data.stories.english import NUMBERS
from minilm.data.stories.words import article, plural

Kind = Literal["story", "question", "free"]
KINDS: tuple[Kind, ...] = ("story", "question", "free")
"""Tell a story about something, answer a question about a story, tell any story."""

ANY_STORY = "Tell me a story."
SIZES = ("easy", "medium", "hard")
"""The grammars that tasks are made from: those in English."""

MOST_DRAWN = 2_000_000  # stories that are looked at before a task is given up


@dataclass(frozen=True)
class Task:
    """What is asked, an answer that is right, and what makes any answer right."""

    prompt: str
    answer: str
    kind: Kind
    size: str
    facts: tuple[tuple[str, str | int], ...]  # of the story that is asked for, or the one that answers the question

    @property
    def messages(self) -> list[dict[str, str]]:
        """The task as a conversation, in the field's format."""
        return [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer}]

    def check(self, answer: str) -> bool:
        """Whether the answer is right; white space around it does not count, nor, for a question, capitals and a last full stop."""
        if self.kind == "question":
            return _bare(answer) == _bare(self.answer)
        story = stories.grammar(self.size).read(answer.strip())
        return story is not None and all(story.facts.get(name) == value for name, value in self.facts)


def _bare(answer: str) -> str:
    return answer.strip().removesuffix(".").casefold()


def instructions(
    size: str = "easy",
    n: int = 1000,
    seed: int = 0,
    split: stories.Split | None = "train",
    kinds: Sequence[Kind] = KINDS,
) -> list[Task]:
    """`n` tasks of the given kinds in turn. The same size, seed and split give the same tasks everywhere.

    A task belongs to a split by hashes, whatever the seed: the story behind it and the words of the prompt both have to fall into
    it, so no prompt that is tested was trained on, nor was the story that answers it ("Tell me a story." is everybody's, and goes
    by its story alone). None takes tasks of every split.

    Raises ValueError for an unknown size, kind or split, and where so many different tasks are not to be had.
    """
    _check(size, n, kinds)
    return list(islice(sample(size, seed, split, kinds), n))


def sample(
    size: str, seed: int = 0, split: stories.Split | None = "train", kinds: Sequence[Kind] = KINDS
) -> Iterator[Task]:
    """Tasks without end: see `instructions`."""
    _check(size, 0, kinds)
    rng = random.Random(f"minilm instructions {size} {seed}")
    made, drawn = 0, 0
    for story in stories.sample(size, seed, split):
        drawn += 1
        kind = kinds[made % len(kinds)]
        task = _MAKERS[kind](story, size, rng)
        if task is not None and (split in (None, stories.split_of(task.prompt)) or kind == "free"):
            made, drawn = made + 1, 0
            yield task
        elif drawn > MOST_DRAWN:
            raise ValueError(
                f"{drawn:,} {size} stories gave no {kind} task of split {split!r}: use another split or size"
            )


def _check(size: str, n: int, kinds: Sequence[Kind]) -> None:
    stories.grammar(size)  # complains of names that do not exist
    if size not in SIZES:
        raise ValueError(f"There are no tasks of size {size!r}; there are {', '.join(SIZES)}, the English ones.")
    if n < 0:
        raise ValueError(f"Cannot make {n} tasks: n must be 0 or more.")
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"There is no kind of task {kind!r}; there are {', '.join(KINDS)}.")
    if not kinds:
        raise ValueError(f"Name at least one kind of task: {', '.join(KINDS)}.")


# ---------------------------------------------------------------------------------------------- tell a story about this

Facts = dict[str, str | int]
# What a story can be asked to be about: the facts that are named, and in which words.
WISHES: tuple[tuple[tuple[str, ...], Callable[[Facts], str]], ...] = (
    (("toy", "color"), lambda facts: article(f"{facts['color']} {facts['toy']}")),
    (("toy",), lambda facts: article(str(facts["toy"]))),
    (("friend",), lambda facts: str(facts["friend"])),
    (("animal",), lambda facts: article(str(facts["animal"]))),
    (("baby",), lambda facts: f"a lost {facts['baby']}"),
    (("food",), lambda facts: plural(str(facts["food"])) if facts["food"] != "tomato" else "tomatoes"),
    (("place",), lambda facts: f"the {facts['place']}"),
    (("relative",), lambda facts: f"a {facts['relative']}"),
)
ASK = ("Tell me a story about {}.", "Write a story about {}.", "I want to hear about {}.")


def _story_task(story: stories.Story, size: str, rng: random.Random) -> Task:
    facts = story.facts
    possible = [wish for wish in WISHES if all(name in facts for name in wish[0])]
    names, words = ["hero"], [str(facts["hero"])]
    for wished, say in rng.sample(possible, min(len(possible), rng.choice((1, 2)))):
        if not set(wished) & set(names):
            names += wished
            words.append(say(facts))
    listed = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    prompt = rng.choice(ASK).format(listed)
    return Task(prompt, story.text, "story", size, tuple((name, facts[name]) for name in names))


# ------------------------------------------------------------------------------------------------------ what was told?

# By plot: questions that the story answers, and the facts that answer them (of numbers: how they are calculated).
Answer = str | Callable[[dict[str, int]], int]
QUESTIONS: dict[str, tuple[tuple[str, Answer], ...]] = {
    "lost": (
        ("What did {hero} lose?", "toy"),
        ("What color is the {toy}?", "color"),
        ("Near which place did {hero} lose the {toy}?", "place"),
        ("Which animal helped {hero}?", "animal"),
    ),
    "share": (
        ("Who was hungry?", "friend"),
        ("Who shared with {friend}?", "hero"),
        ("How many did {hero} have at first?", "had"),
        ("How many did {hero} give away?", "gave"),
        ("How many did {hero} have left?", lambda facts: facts["had"] - facts["gave"]),
    ),
    "pet": (
        ("Where did {hero} find a friend?", "place"),
        ("Which animal did {hero} take home?", "animal"),
        ("Who was at home?", "relative"),
    ),
    "gift": (
        ("What did {hero} make?", "toy"),
        ("What color is the {toy}?", "color"),
        ("Who got the {toy}?", "friend"),
        ("Where did they take the {toy}?", "place"),
    ),
    "brave": (("What was {hero} afraid of?", "fear"), ("Which animal did {hero} save?", "animal")),
    "make": (
        ("What did {hero} make?", "toy"),
        ("What color is the {toy}?", "color"),
        ("Who got the {toy}?", "relative"),
    ),
    "shop": (
        ("What did {hero} buy?", "toy"),
        ("How many coins did {hero} have at first?", "had"),
        ("How many coins did the {toy} cost?", "cost"),
        ("How many coins were left?", lambda facts: facts["had"] - facts["cost"]),
    ),
    "race": (("Who won?", "winner"), ("Who lost?", "loser"), ("What was the prize?", "prize")),
    "borrow": (("Who was unlucky?", "unlucky"), ("What color is the {toy} of {hero}?", "color")),
    "hide": (("Who was found first?", "earlier"), ("How far did {hero} count?", "count")),
    "garden": (
        ("How many plants were there at first?", lambda facts: facts["first"] + facts["second"]),
        ("Which animal came?", "animal"),
        ("How many were eaten?", "eaten"),
    ),
    "nest": (("Which animal was lost?", "baby"), ("Near which place did it live?", "place2")),
    "bake": (
        ("How many pieces were left?", lambda facts: facts["slices"] - facts["eaten"]),
        ("What was there no more of?", "mat4"),
    ),
    "trip": (("What did {hero} bring home?", "souvenir"), ("Who went with {hero}?", "relative")),
}


def _question_task(story: stories.Story, size: str, rng: random.Random) -> Task | None:
    facts = story.facts
    if facts.get("plot") not in QUESTIONS:  # some plots of the hard size have none
        return None
    question, answer = rng.choice(QUESTIONS[str(facts["plot"])])
    numbers = {name: value for name, value in facts.items() if isinstance(value, int)}
    found = facts[answer] if isinstance(answer, str) else answer(numbers)
    right = NUMBERS[found].text if isinstance(found, int) else found
    prompt = f"{story.text} {question.format(**facts)}"
    return Task(prompt, right, "question", size, ((answer if isinstance(answer, str) else "sum", found),))


def _free_task(story: stories.Story, size: str, rng: random.Random) -> Task:
    return Task(ANY_STORY, story.text, "free", size, ())


_MAKERS: dict[Kind, Callable[[stories.Story, str, random.Random], Task | None]] = {
    "story": _story_task,
    "question": _question_task,
    "free": _free_task,
}
