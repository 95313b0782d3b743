"""Random facts about made-up people, whose bits are known: a task that is limited by how much a model can hold.

Every person has a name and a value for each attribute, drawn evenly and on their own, so nothing about one fact helps to
guess another and the only way to know them is to store them. A model that is told the name and gives the values with a loss of so
many bits stores the rest: the bits of the facts minus what it would still have to be told. Bits stored a parameter measure
capacity, after Allen-Zhu and Li, "Physics of language models: part 3.3, knowledge capacity scaling laws" (2024), who
find about 2 for transformers that read every fact 1,000 times, and about 1 after 100.

    facts = Facts(people=2048, attributes=8, values=16)
    facts.bits                          # 65,536
    facts.tokens()                      # first name, last name, value 0 .. value 7, next person ...
    facts.stored_bits(nats_a_value)     # how many of the bits a model with that loss holds
"""

import functools
import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NAME_TOKENS = 2


@dataclass(frozen=True)
class Facts:
    """People x attributes, each fact one of `values`, all drawn evenly from a seed.

    A person's record is a short row of tokens: first name, last name, then one value token an attribute, always in the same order,
    so that its place says which attribute it is. No two people have the same name. The first and last names have tokens of their
    own; all attributes share the tokens of the values. The same numbers and seed give the same facts everywhere.

    >>> facts = Facts(people=4, attributes=3, values=2)
    >>> facts.vocab_size, facts.length, facts.bits
    (6, 5, 12.0)
    >>> facts.say(1)
    'Boba Debobe knows 0 1 0'
    """

    people: int
    attributes: int
    values: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("people", 1), ("attributes", 1), ("values", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"Facts.{name} = {getattr(self, name)}: it must be at least {least}")

    # ---------------------------------------------------------------------------------------------------------- the facts

    @functools.cached_property
    def table(self) -> npt.NDArray[np.int64]:
        """The facts: `table[person, attribute]` is a value from 0 to values - 1."""
        rng = random.Random(f"minilm facts {self.people} {self.attributes} {self.values} {self.seed}")
        drawn = [int(rng.random() * self.values) for _ in range(self.people * self.attributes)]
        return np.array(drawn, dtype=np.int64).reshape(self.people, self.attributes)

    @property
    def number(self) -> int:
        """How many facts there are."""
        return self.people * self.attributes

    @property
    def bits_a_fact(self) -> float:
        """log2 of the number of values: what a fact costs somebody who knows nothing."""
        return math.log2(self.values)

    @property
    def bits(self) -> float:
        """The bits of all facts. Names are given, and don't count."""
        return self.number * self.bits_a_fact

    # --------------------------------------------------------------------------------------------------------- as tokens

    @property
    def names(self) -> int:
        """How many first names there are, and as many last names: as few as give everybody a name of their own."""
        return math.isqrt(self.people - 1) + 1

    @property
    def vocab_size(self) -> int:
        """First names, last names, values, in this order of ids."""
        return 2 * self.names + self.values

    @property
    def length(self) -> int:
        """Tokens of a person's record."""
        return NAME_TOKENS + self.attributes

    @functools.cached_property
    def records(self) -> npt.NDArray[np.int64]:
        """The token ids, one row a person: first name, last name, values."""
        person = np.arange(self.people)
        first, last = np.divmod(person, self.names)
        return np.column_stack((first, self.names + last, 2 * self.names + self.table))

    def tokens(self) -> npt.NDArray[np.int64]:
        """All records one after the other, as training reads them.

        `WindowBatches(facts.tokens(), batch_size, facts.length - 1, stride=facts.length, skip=1)` visits every person once an
        epoch, and learns the values and not the names.
        """
        return self.records.reshape(-1)

    def say(self, person: int) -> str:
        """A record in words: a name and the numbers of the values."""
        first, last = divmod(person, self.names)
        values = " ".join(map(str, self.table[person].tolist()))
        return f"{_name(first, 2)} {_name(last, 3)} knows {values}"

    # ------------------------------------------------------------------------------------------------------ what is stored

    def stored_bits(self, nats_a_value: float) -> float:
        """The bits that a model holds whose mean loss is so many nats a value: all bits minus those that its loss says are missing.

        With all of a person's values predicted one after the other this is exact: who has the model needs so many bits fewer to
        write the facts down. Below 0 it knows less than nothing: it is sure of what is wrong.
        """
        return self.number * (self.bits_a_fact - nats_a_value / math.log(2))


def _name(number: int, syllables: int) -> str:
    """A name that can be read aloud, another one for every number that so many syllables can tell apart."""
    written = ""
    for place in range(syllables):
        number, digit = divmod(number, len(_SYLLABLES))
        written = _SYLLABLES[(digit + 3 * place) % len(_SYLLABLES)] + written
    return written.capitalize()


_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
