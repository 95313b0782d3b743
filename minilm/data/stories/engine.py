"""The engine: a story is a path through a graph whose every random step has a known probability.

Text nodes print, draws pick a word and remember it, recalls print it again, choices branch. Walking the graph with
random numbers samples a story and its exact bits. Walking it against a text, trying every branch that prints what the
text says, gives the exact probability of the text and the true distribution of every next character.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from minilm.data.stories.words import Word

END = "<end>"
"""The name of the end of a story among the next characters."""

Held: TypeAlias = dict[str, Word]


class Branch(NamedTuple):
    """One way on from a node: its probability, what it prints, and where it leads with which words held."""

    probability: float
    piece: str
    held: Held
    next: "Node | None"
    chosen: bool = False
    mention: tuple[str, str] | None = None


class Choice(NamedTuple):
    """One random choice of a story: the characters text[start:end] told it, and it cost that many bits.

    The characters are the first piece printed after the choice; two choices share them where the first prints nothing.
    """

    start: int
    end: int
    bits: float


class Mention(NamedTuple):
    """Where a story names one of its facts: text[start:end] is the given form of it ("" is the word itself)."""

    name: str
    form: str
    start: int
    end: int


class Tape:
    """What a story has printed and decided so far. `pieces` joined are the text; the other lists point into them."""

    __slots__ = ("choices", "held", "mentions", "pieces", "random")

    def __init__(self, draw: Callable[[], float]) -> None:
        self.random = draw
        self.held: Held = {}
        self.pieces: list[str] = []
        self.choices: list[tuple[int, float]] = []
        self.mentions: list[tuple[int, str, str]] = []


class Story:
    """A story with its exact probability and everything that the grammar decided while telling it.

    `bits` is -log2 of the probability of the choices made, which is that of the text as only they print it.
    `facts` are the words held at the end by name (`hero`, `toy`, `place`, `plot`, ...); numbers are integers, and a
    character's gender is under `hero.gender`. `choices` and `mentions` point into the text.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.text = "".join(tape.pieces)
        self.bits = math.fsum([bits for _, bits in tape.choices])

    def __repr__(self) -> str:
        return f"Story({self.text!r}, bits={self.bits:.2f})"

    @cached_property
    def facts(self) -> dict[str, str | int]:
        facts: dict[str, str | int] = {}
        for name, word in self._tape.held.items():
            facts[name] = word.text if word.number is None else word.number
            if "gender" in word.forms:
                facts[f"{name}.gender"] = word.forms["gender"]
        return facts

    @cached_property
    def choices(self) -> list[Choice]:
        starts = self._starts
        return [Choice(starts[i], starts[min(i + 1, len(starts) - 1)], bits) for i, bits in self._tape.choices]

    @cached_property
    def mentions(self) -> list[Mention]:
        starts = self._starts
        return [Mention(name, form, starts[i], starts[i + 1]) for i, name, form in self._tape.mentions]

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(piece) for piece in self._tape.pieces), initial=0))


class Node:
    """A step of a story. `sample` takes it with random numbers, `branches` lists every way to take it."""

    __slots__ = ("next",)

    def __init__(self, following: "Node | None") -> None:
        self.next = following

    def sample(self, tape: Tape) -> "Node | None":
        raise NotImplementedError

    def branches(self, held: Held) -> Iterator[Branch]:
        raise NotImplementedError


class Text(Node):
    """Prints a fixed text."""

    __slots__ = ("text",)

    def __init__(self, text: str, following: Node | None) -> None:
        super().__init__(following)
        self.text = text

    def sample(self, tape: Tape) -> Node | None:
        tape.pieces.append(self.text)
        return self.next

    def branches(self, held: Held) -> Iterator[Branch]:
        yield Branch(1.0, self.text, held, self.next)


class Fork(Node):
    """Goes on with one of several nodes, which may be the node after the fork itself (an optional text left out)."""

    __slots__ = ("bits", "cumulative", "nexts", "probabilities")

    def __init__(self, nexts: Sequence[Node | None], weights: Sequence[float]) -> None:
        super().__init__(None)
        self.nexts = list(nexts)
        self.probabilities, self.cumulative = _normalise(weights)
        self.bits = [-math.log2(p) for p in self.probabilities]

    def sample(self, tape: Tape) -> Node | None:
        i = bisect_right(self.cumulative, tape.random())
        tape.choices.append((len(tape.pieces), self.bits[i]))
        return self.nexts[i]

    def branches(self, held: Held) -> Iterator[Branch]:
        for following, probability in zip(self.nexts, self.probabilities, strict=True):
            yield Branch(probability, "", held, following, chosen=True)


class WordList:
    """A list of words with falling weights, 1/(rank + 20): the first are common, the last are rare, none is very rare.

    `names` are all names under which the grammar holds words of this list: a word that one of them holds is not drawn
    again, so that two toys of a story differ.
    """

    def __init__(self, words: Sequence[Word], weights: Sequence[float] | None = None) -> None:
        self.words = list(words)
        self.probabilities, self.cumulative = _normalise(weights or [1 / (rank + 20) for rank in range(len(words))])
        self.probability_of = dict(zip(self.words, self.probabilities, strict=True))
        self.names: list[str] = []


class Printer:
    """How a word is printed: which form, agreeing with which other word, capitalised or not."""

    __slots__ = ("agree", "capital", "form")

    def __init__(self, form: str = "", agree: str = "", capital: bool = False) -> None:
        self.form, self.agree, self.capital = form, agree, capital

    def __call__(self, word: Word, held: Held) -> str:
        form = self.form
        if self.agree:
            form = held[self.agree].form("gender") + form
        text = word.forms[form] if form else word.text
        return text[:1].upper() + text[1:] if self.capital else text


class Draw(Node):
    """Draws a word from a list, none that is held already, prints it, and holds it under a name if it has one."""

    __slots__ = ("list", "name", "printer")

    def __init__(self, words: WordList, name: str, printer: Printer, following: Node | None) -> None:
        super().__init__(following)
        self.list, self.name, self.printer = words, name, printer
        if name and name not in words.names:
            words.names.append(name)

    def sample(self, tape: Tape) -> Node | None:
        held, source = tape.held, self.list
        i = bisect_right(source.cumulative, tape.random())
        word, left = source.words[i], 1.0
        if taken := self._taken(held):
            while word in taken:
                i = bisect_right(source.cumulative, tape.random())
                word = source.words[i]
            left = 1.0 - sum([source.probability_of.get(other, 0.0) for other in taken])
        tape.choices.append((len(tape.pieces), -math.log2(source.probabilities[i] / left)))
        if self.name:
            held[self.name] = word
            tape.mentions.append((len(tape.pieces), self.name, self.printer.form))
        tape.pieces.append(self.printer(word, held))
        return self.next

    def branches(self, held: Held) -> Iterator[Branch]:
        taken = self._taken(held)
        left = 1.0 - sum(self.list.probability_of.get(other, 0.0) for other in taken)
        for word, probability in self.list.probability_of.items():
            if word not in taken:
                after = {**held, self.name: word} if self.name else held
                mention = (self.name, self.printer.form) if self.name else None
                yield Branch(probability / left, self.printer(word, held), after, self.next, True, mention)

    def _taken(self, held: Held) -> list[Word]:
        return [held[name] for name in self.list.names if name in held]


class Sum:
    """A small calculation with held numbers, such as `had-gave+2`."""

    def __init__(self, terms: Sequence[tuple[int, str]]) -> None:
        self.terms = list(terms)
        self.names = {term for _, term in terms if not term.isdigit()}

    def extreme(self, ranges: dict[str, tuple[int, int]], side: int) -> int:
        """The least (side -1) or greatest (side 1) value, the names lying anywhere in their ranges."""
        values = [int(term) if term.isdigit() else ranges[term][sign * side > 0] for sign, term in self.terms]
        return sum(sign * value for (sign, _), value in zip(self.terms, values, strict=True))

    def __call__(self, held: Held) -> int:
        total = 0
        for sign, term in self.terms:
            if term.isdigit():
                total += sign * int(term)
            else:
                number = held[term].number
                if number is None:
                    raise ValueError(f"{term!r} holds {held[term].text!r}, which is not a number.")
                total += sign * number
        return total


class DrawNumber(Node):
    """Draws a number between two bounds, both included and equally likely, prints its word and holds it."""

    __slots__ = ("high", "low", "name", "numbers", "printer")

    def __init__(
        self, numbers: Sequence[Word], name: str, low: Sum, high: Sum, printer: Printer, following: Node | None
    ) -> None:
        super().__init__(following)
        self.numbers, self.name, self.low, self.high, self.printer = numbers, name, low, high, printer

    def sample(self, tape: Tape) -> Node | None:
        low, high = self.low(tape.held), self.high(tape.held)
        word = self.numbers[low + int(tape.random() * (high - low + 1))]
        tape.choices.append((len(tape.pieces), math.log2(high - low + 1)))
        tape.held[self.name] = word
        tape.mentions.append((len(tape.pieces), self.name, self.printer.form))
        tape.pieces.append(self.printer(word, tape.held))
        return self.next

    def branches(self, held: Held) -> Iterator[Branch]:
        low, high = self.low(held), self.high(held)
        for word in self.numbers[low : high + 1]:
            yield Branch(
                1 / (high - low + 1),
                self.printer(word, held),
                {**held, self.name: word},
                self.next,
                True,
                (self.name, self.printer.form),
            )


class Recall(Node):
    """Prints a word that is held, or the result of a calculation: no choice, zero bits."""

    __slots__ = ("name", "numbers", "printer", "total")

    def __init__(
        self,
        name: str,
        printer: Printer,
        following: Node | None,
        total: Sum | None = None,
        numbers: Sequence[Word] = (),
    ) -> None:
        super().__init__(following)
        self.name, self.printer, self.total, self.numbers = name, printer, total, numbers

    def sample(self, tape: Tape) -> Node | None:
        held = tape.held
        word = self.numbers[self.total(held)] if self.total else held[self.name]
        tape.mentions.append((len(tape.pieces), self.name, self.printer.form))
        tape.pieces.append(self.printer(word, held))
        return self.next

    def branches(self, held: Held) -> Iterator[Branch]:
        word = self.numbers[self.total(held)] if self.total else held[self.name]
        yield Branch(1.0, self.printer(word, held), held, self.next, False, (self.name, self.printer.form))


class Note(Node):
    """Holds a word silently: facts that the text never says, such as the name of the plot."""

    __slots__ = ("name", "word")

    def __init__(self, name: str, word: Word, following: Node | None) -> None:
        super().__init__(following)
        self.name, self.word = name, word

    def sample(self, tape: Tape) -> Node | None:
        tape.held[self.name] = self.word
        return self.next

    def branches(self, held: Held) -> Iterator[Branch]:
        yield Branch(1.0, "", {**held, self.name: self.word}, self.next)


Trail: TypeAlias = "tuple[Trail, Branch] | None"
"""The branches taken on the way to a place, last first."""


class Grammar:
    """Stories from a graph of nodes: samples them, and knows the exact probability of every text and character."""

    def __init__(self, name: str, start: Node | None) -> None:
        self.name = name
        self.start = start

    def __repr__(self) -> str:
        return f"Grammar({self.name!r})"

    def sample(self, rng: random.Random) -> Story:
        """A story drawn with `rng`: the same on every platform and Python for the same state of it."""
        tape = Tape(rng.random)
        node = self.start
        while node is not None:
            node = node.sample(tape)
        return Story(tape)

    def read(self, text: str) -> Story | None:
        """The story behind a text that somebody else may have written, or None if the grammar cannot print it."""
        ways = self._walk(text)
        return Story(_replay(ways[0][1])) if ways else None

    def bits(self, text: str) -> float:
        """Exactly -log2 p(text), summed over every derivation; infinity for a text that the grammar cannot print."""
        total = sum(probability for probability, _ in self._walk(text))
        return -math.log2(total) if total else math.inf

    def derivations(self, text: str) -> int:
        """In how many ways the grammar prints this text: 1 for its own stories, 0 for all others."""
        return len(self._walk(text))

    def next_char(self, prefix: str) -> dict[str, float]:
        """The true distribution of the character after a prefix, likeliest first, with `"<end>"` for the end.

        No model can do better than this one. The dictionary is empty if no story begins with the prefix.
        """
        return self.next_char_along(prefix)[-1]

    def next_char_along(self, text: str) -> list[dict[str, float]]:
        """`next_char` of every prefix of the text in one walk: entry t is the distribution of text[t], the last what follows."""
        masses: list[dict[str, float]] = [{} for _ in range(len(text) + 1)]
        self._walk(text, masses)
        result = []
        for mass in masses:
            total = sum(mass.values())
            result.append({c: m / total for c, m in sorted(mass.items(), key=lambda item: (-item[1], item[0]))})
        return result

    def surprisals(self, text: str) -> list[float]:
        """-log2 p of every character after those before it, and of the end; their sum is `bits(text)`."""
        after = self.next_char_along(text)
        probabilities = [after[t].get(c, 0.0) for t, c in enumerate([*text, END])]
        return [-math.log2(p) if p else math.inf for p in probabilities]

    def entropies(self, text: str) -> list[float]:
        """The entropy of every character after those before it, in bits, and of what follows the text."""
        return [-math.fsum(p * math.log2(p) for p in after.values()) for after in self.next_char_along(text)]

    @cached_property
    def words(self) -> list[str]:
        """Every word that the grammar can print, in lower case and sorted."""
        from minilm.data.stories.analysis import words  # here, because that module needs this one

        return words(self)

    def _walk(self, text: str, masses: list[dict[str, float]] | None = None) -> list[tuple[float, Trail]]:
        """Every derivation of the text with its probability; `masses` collects the chances of characters on the way."""
        ways: list[tuple[float, Trail]] = []
        agenda: list[tuple[Node | None, Held, int, float, Trail]] = [(self.start, {}, 0, 1.0, None)]
        while agenda:
            node, held, position, probability, trail = agenda.pop()
            if node is None:
                if masses is not None:
                    masses[position][END] = masses[position].get(END, 0.0) + probability
                if position == len(text):
                    ways.append((probability, trail))
                continue
            for branch in node.branches(held):
                p, piece = probability * branch.probability, branch.piece
                if masses is not None:
                    _collect(masses, text, position, piece, p)
                if text.startswith(piece, position):
                    agenda.append((branch.next, branch.held, position + len(piece), p, (trail, branch)))
        return ways


class Mixture(Grammar):
    """Stories of several grammars, each as likely as the others; the fact `grammar` says whose a story is."""

    def __init__(self, name: str, grammars: Sequence[Grammar]) -> None:
        notes = [Note("grammar", Word(each.name), each.start) for each in grammars]
        super().__init__(name, Fork(notes, [1.0] * len(notes)))
        self.grammars = list(grammars)

    @cached_property
    def words(self) -> list[str]:
        """Every word that one of the grammars can print."""
        return sorted(set().union(*(each.words for each in self.grammars)))


def _collect(masses: list[dict[str, float]], text: str, position: int, piece: str, probability: float) -> None:
    """Add a piece's characters to the masses at their positions, up to the first that the text does not have."""
    for t, character in enumerate(piece, position):
        mass = masses[t]
        mass[character] = mass.get(character, 0.0) + probability
        if t == len(text) or text[t] != character:
            return


def _replay(trail: Trail) -> Tape:
    """The tape that taking these branches would have written."""
    branches = []
    while trail is not None:
        trail, branch = trail
        branches.append(branch)
    tape = Tape(random.random)
    for branch in reversed(branches):
        if branch.chosen:
            tape.choices.append((len(tape.pieces), -math.log2(branch.probability)))
        if branch.mention:
            tape.mentions.append((len(tape.pieces), *branch.mention))
        if branch.piece or branch.mention:
            tape.pieces.append(branch.piece)
        tape.held = branch.held
    return tape


def _normalise(weights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Probabilities and their running sums without the last, so that a bisection never falls off the end."""
    total = sum(weights)
    probabilities = [weight / total for weight in weights]
    return probabilities, list(accumulate(probabilities))[:-1]
