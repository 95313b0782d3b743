"""The language in which stories are written, and its translation into the engine's graph.

    [red:3|blue]            one of two texts, the first three times as likely; a part may hold anything written here
    [ very|] small          an optional text
    [toy=TOY]               a word of the list TOY, printed and held as `toy`; [toy.an=TOY] prints its form "an"
    [mood=happy|sad]        one of two words, printed and held
    [TOY]  [.an=TOY]        a word of a list, printed and forgotten
    {toy}  {toy.s}  {toy^}  a held word again, in another form, with a capital
    {color:toy}             a held adjective in the form that agrees with the gender of a held noun; [color:toy=COLOR]
    [had=5..9] [gave=2..had-2] {had-gave}     numbers, drawn evenly between bounds, and calculations with them
    <plot=lost>             a fact noted without a word
    [MORAL]  [MEET(friend)] a rule: another template, in which _1, _2, ... stand for the names in parentheses

A line break in a template is one space, so that a plot can be written one sentence a line.
"""

import re
from collections.abc import Mapping, Sequence

from minilm.data.stories.engine import (
    Draw,
    DrawNumber,
    Fork,
    Grammar,
    Node,
    Note,
    Printer,
    Recall,
    Sum,
    Text,
    WordList,
)
from minilm.data.stories.words import Word

_SPEC = r"(?P<name>\w*)(?:\.(?P<form>\w+))?(?::(?P<agree>\w+))?(?P<capital>\^?)"
_RECALL = re.compile(_SPEC + "$")
_CALCULATION = re.compile(r"(?P<total>\w+(?:[+-]\w+)+)(?:\.(?P<form>\w+))?(?P<capital>\^?)$")
_BOUND = re.compile(_SPEC + "=(?P<source>.*)$", re.DOTALL)
_RANGE = re.compile(r"([\w+-]+)\.\.([\w+-]+)$")
_UPPER = re.compile(r"([A-Z][A-Z0-9]*)(?:\(([\w,\s]*)\))?$")
_WEIGHT = re.compile(r":(\d+)$")


class TemplateError(ValueError):
    """A template that cannot be compiled; the message quotes the part that is wrong."""


def compile_grammar(
    name: str,
    story: str,
    rules: Mapping[str, str],
    lists: Mapping[str, Sequence[Word]],
    numbers: Sequence[Word],
) -> Grammar:
    """A grammar from its templates and word lists. `story` is the template of a whole story.

    Raises TemplateError that quotes the part which is wrong.
    """
    compiler = _Compiler(rules, {key: WordList(words) for key, words in lists.items()}, numbers)
    return Grammar(name, compiler.template(story, None))


class _Compiler:
    """Builds nodes from the end of a template backwards, since every node knows the one that follows it."""

    def __init__(self, rules: Mapping[str, str], lists: Mapping[str, WordList], numbers: Sequence[Word]) -> None:
        if both := sorted(set(rules) & set(lists)):
            raise TemplateError(f"{both[0]!r} is the name of a rule and of a word list: rename one of them.")
        self.rules, self.lists, self.numbers = rules, lists, numbers

    def template(self, template: str, following: Node | None) -> Node | None:
        """The first node of a whole template or rule, which may have alternatives of its own."""
        return self.alternatives(tidy(template), following)

    def alternatives(self, text: str, following: Node | None) -> Node | None:
        parts = split_alternatives(text)
        nexts = [self.sequence(part, following) for part, _ in parts]
        return nexts[0] if len(nexts) == 1 else Fork(nexts, [weight for _, weight in parts])

    def sequence(self, text: str, following: Node | None) -> Node | None:
        node = following
        for part in reversed(split_parts(text)):
            if part[0] == "[":
                node = self.choice(part[1:-1], node)
            elif part[0] == "{":
                node = self.recall(part[1:-1], node)
            elif part[0] == "<":
                name, _, value = part[1:-1].partition("=")
                node = Note(name, Word(value), node)
            else:
                node = Text(part, node)
        return node

    def choice(self, text: str, following: Node | None) -> Node | None:
        if match := _UPPER.match(text):
            if match[1] in self.lists:
                return Draw(self.lists[match[1]], "", Printer(), following)
            return self.rule(match[1], match[2], following)
        if not (match := _BOUND.match(text)):
            return self.alternatives(text, following)
        name, source = match["name"], match["source"]
        printer = Printer(match["form"] or "", match["agree"] or "", bool(match["capital"]))
        if bounds := _RANGE.match(source):
            return DrawNumber(self.numbers, name, self.sum(bounds[1]), self.sum(bounds[2]), printer, following)
        if source in self.lists:
            return Draw(self.lists[source], name, printer, following)
        if _UPPER.match(source):
            raise TemplateError(f"[{text}] draws from {source!r}, which is no word list.")
        parts = split_alternatives(source)
        if any(set(part) & set("[]{}<>") for part, _ in parts):
            raise TemplateError(f"[{text}] holds a word, so its alternatives must be plain text.")
        words = WordList([Word(part) for part, _ in parts], [weight for _, weight in parts])
        return Draw(words, name, printer, following)

    def rule(self, name: str, arguments: str | None, following: Node | None) -> Node | None:
        if name not in self.rules:
            raise TemplateError(f"[{name}] is neither a word list nor a rule.")
        template = self.rules[name]
        for i, argument in enumerate((arguments or "").split(","), 1):
            template = template.replace(f"_{i}", argument.strip())
        return self.template(template, following)

    def recall(self, text: str, following: Node | None) -> Node:
        if match := _CALCULATION.match(text):
            printer = Printer(match["form"] or "", "", bool(match["capital"]))
            return Recall(match["total"], printer, following, self.sum(match["total"]), self.numbers)
        if not (match := _RECALL.match(text)) or not match["name"]:
            raise TemplateError(f"{{{text}}} is not a recall such as {{toy}}, {{toy.an}} or {{toy^}}.")
        return Recall(
            match["name"], Printer(match["form"] or "", match["agree"] or "", bool(match["capital"])), following
        )

    def sum(self, text: str) -> Sum:
        terms = re.findall(r"([+-]?)(\w+)", text)
        return Sum([(-1 if sign == "-" else 1, term) for sign, term in terms])


def tidy(template: str) -> str:
    """A template on one line: a line break with the spaces around it is one space, or none beside a `|`."""
    if "\n" in template:
        template = re.sub(r"\s*\n\s*\|[ \t]*", "|", template.strip())
        template = re.sub(r"\s*\n\s*", " ", template)
    return template


def split_alternatives(text: str) -> list[tuple[str, int]]:
    """The parts between top-level bars with their weights: "a:3|b" is [("a", 3), ("b", 1)]."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "[{<") - (character in "]}>")
        if character == "|" and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    weighted = []
    for part in parts:
        weight = _WEIGHT.search(part)
        weighted.append((part[: weight.start()], int(weight[1])) if weight else (part, 1))
    return weighted


def split_parts(text: str) -> list[str]:
    """The parts of a sequence: literal texts, and whole brackets of each kind with what is nested in them."""
    parts, start, depth = [], 0, 0
    for i, character in enumerate(text):
        if character in "[{<":
            if depth == 0 and i > start:
                parts.append(text[start:i])
            if depth == 0:
                start = i
            depth += 1
        elif character in "]}>":
            depth -= 1
            if depth < 0:
                raise TemplateError(f"{character!r} closes nothing: ...{text[max(0, i - 30) : i + 1]}")
            if depth == 0:
                parts.append(text[start : i + 1])
                start = i + 1
    if depth:
        raise TemplateError(f"a bracket is not closed: {text[start : start + 40]}...")
    if start < len(text):
        parts.append(text[start:])
    return parts


def one_of(plots: Mapping[str, str]) -> str:
    """A rule that tells one of some named templates, equally likely, and notes its name as the fact `plot`."""
    return "|".join(f"<plot={name}>{tidy(text)}" for name, text in plots.items())
