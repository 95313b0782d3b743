"""What can be proven about a grammar without sampling: that every story has one derivation, and which words it knows."""

import re
from collections.abc import Iterator, Sequence

from minilm.data.stories.engine import Branch, Draw, DrawNumber, Fork, Grammar, Held, Node, Note, Recall
from minilm.data.stories.words import Word

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def find_words(text: str) -> list[str]:
    """The words of a text in lower case; "don't" is one."""
    return [word.lower() for word in _WORD.findall(text)]


def nodes(grammar: Grammar) -> Iterator[Node]:
    """Every node of the graph, once."""
    seen: set[int] = set()
    agenda = [grammar.start]
    while agenda:
        node = agenda.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        agenda += node.nexts if isinstance(node, Fork) else [node.next]


def possible_words(grammar: Grammar) -> dict[str, list[Word]]:
    """For every name, the words that it may hold."""
    possible: dict[str, dict[Word, None]] = {}
    for node in nodes(grammar):
        if isinstance(node, Draw) and node.name:
            possible.setdefault(node.name, {}).update(dict.fromkeys(node.list.words))
        elif isinstance(node, DrawNumber):
            low, high = _bounds(node, grammar)
            possible.setdefault(node.name, {}).update(dict.fromkeys(node.numbers[low : high + 1]))
        elif isinstance(node, Note):
            possible.setdefault(node.name, {})[node.word] = None
    return {name: list(words) for name, words in possible.items()}


def _bounds(node: DrawNumber, grammar: Grammar) -> tuple[int, int]:
    """The smallest and the largest number that a node can draw, whatever its bounds depend on."""
    ranges = {
        other.name: _bounds(other, grammar)
        for other in nodes(grammar)
        if isinstance(other, DrawNumber) and other.name in node.low.names | node.high.names
    }
    return node.low.extreme(ranges, -1), node.high.extreme(ranges, 1)


def words(grammar: Grammar) -> list[str]:
    """Every word that the grammar can print: walks the graph with the unfinished word at the end of what was printed.

    A word may be cut into pieces ("content" and "e"), so pieces alone don't say. Recalls print any word that their
    name may hold, which is more than one story can: never a word too few, and hardly one too many.
    """
    possible = possible_words(grammar)
    found: set[str] = set()
    seen: set[tuple[int, str]] = set()
    agenda: list[tuple[Node | None, str]] = [(grammar.start, "")]
    while agenda:
        node, open_word = agenda.pop()
        if node is None:
            found.update(find_words(open_word))
            continue
        if (id(node), open_word) in seen:
            continue
        seen.add((id(node), open_word))
        for piece, following in _pieces(node, possible):
            text = open_word + piece
            cut = max(text.rfind(" "), text.rfind('"')) + 1
            found.update(find_words(text[:cut]))
            agenda.append((following, text[cut:]))
    return sorted(found)


def _pieces(node: Node, possible: dict[str, list[Word]]) -> Iterator[tuple[str, Node | None]]:
    """What a node may print whatever is held, and where it leads."""
    if isinstance(node, DrawNumber):
        for word in possible[node.name]:
            yield node.printer(word, {}), node.next
    elif isinstance(node, Draw | Recall):
        if isinstance(node, Draw):
            choices: Sequence[Word] = node.list.words
        elif node.total:
            numbers = {name: [word.number or 0 for word in possible[name]] for name in node.total.names}
            ranges = {name: (min(values), max(values)) for name, values in numbers.items()}
            choices = node.numbers[max(0, node.total.extreme(ranges, -1)) : node.total.extreme(ranges, 1) + 1]
        else:
            choices = possible[node.name]
        agree = node.printer.agree
        helds: list[Held] = [{agree: other} for other in _genders(possible[agree])] if agree else [{}]
        for held in helds:
            for word in choices:
                yield node.printer(word, held), node.next
    else:
        for branch in node.branches({}):
            yield branch.piece, branch.next


def _genders(candidates: list[Word]) -> list[Word]:
    """One word for each gender."""
    return list({word.form("gender"): word for word in candidates}.values())


def find_ambiguity(grammar: Grammar, limit: int = 200_000) -> str | None:
    """What makes some text printable in two ways, in a sentence, or None: then every story has exactly one derivation.

    Two derivations of one text part at a first choice. So for every choice and every two of its branches it is enough
    that the texts after them part as well, before the two meet again: no alternative, read with what follows it, may
    be a prefix of another. Words that were held before the choice may be any, the same ones on both sides.
    """
    possible = possible_words(grammar)
    for node in nodes(grammar):
        if not isinstance(node, Fork | Draw | DrawNumber):
            continue
        for left, right in _pairs(node, possible):
            if problem := _meet(left, right, possible, limit):
                return problem
    return None


def _pairs(node: Node, possible: dict[str, list[Word]]) -> Iterator[tuple[Branch, Branch]]:
    """Every two branches of a node that may begin alike: the sorted pieces of which one begins the other."""
    for held in _resolve(node, {}, possible):
        branches = sorted(node.branches(held), key=lambda branch: branch.piece)
        for i, left in enumerate(branches):
            for right in branches[i + 1 :]:
                if not right.piece.startswith(left.piece):
                    break
                yield left, right


def _resolve(node: Node, held: Held, possible: dict[str, list[Word]]) -> list[Held]:
    """The held words completed by whatever the node needs to know, in every possible way."""
    try:
        for _ in node.branches(held):
            pass
    except KeyError as missing:
        name = missing.args[0]
        if name not in possible:
            raise
        # Two names never hold the same word of a list, but they may hold the same number.
        taken = {word for word in held.values() if word.number is None}
        ways = [{**held, name: word} for word in possible[name] if word not in taken]
        return [way for start in ways for way in _resolve(node, start, possible)]
    return [held]


def _meet(left: Branch, right: Branch, possible: dict[str, list[Word]], limit: int) -> str | None:
    """Whether two branches can go on to print the same text: the two are walked together until they must part."""
    agenda = [("", left, right)]
    steps = 0
    while agenda:
        printed, left, right = agenda.pop()
        steps += 1
        if steps > limit:
            return f"No end of likeness after {printed!r}: are two alternatives the same?"
        shared = min(len(left.piece), len(right.piece))
        if left.piece[:shared] != right.piece[:shared]:
            continue
        printed += left.piece[:shared]
        left, right = left._replace(piece=left.piece[shared:]), right._replace(piece=right.piece[shared:])
        if not left.piece and not right.piece and left.next is right.next and _same(left.held, right.held):
            return f"Two ways to print {printed!r}."
        if left.piece:
            left, right = right, left
        if left.next is None:
            if not right.piece and right.next is None:
                return f"Two ways to print {printed!r} at the end of a story."
            if right.piece:
                continue
            left, right = right, left
        assert left.next is not None
        for held in _resolve(left.next, left.held, possible):
            learned = {name: word for name, word in held.items() if name not in left.held}
            for branch in left.next.branches(held):
                if not (branch.piece.startswith(right.piece) or right.piece.startswith(branch.piece)):
                    continue
                agenda.append((printed, branch, right._replace(held={**learned, **right.held})))
    return None


def _same(left: Held, right: Held) -> bool:
    return all(right.get(name) is word for name, word in left.items()) and len(left) == len(right)
