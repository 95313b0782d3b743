"""Words with their forms: an English noun knows its article and plural, a French one its gender and elisions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Word:
    """One word of a list, and its other forms by name: `{toy.an}` prints `toy.forms["an"]`.

    `number` is set for number words, so that the grammar can calculate with them. Words are compared by identity:
    the same spelling in two lists is two words.
    """

    text: str
    forms: dict[str, str] = field(default_factory=dict)
    number: int | None = None

    def form(self, name: str) -> str:
        """The form of that name, or the plain text where the name is empty; KeyError names a form that is missing."""
        if not name:
            return self.text
        try:
            return self.forms[name]
        except KeyError:
            raise KeyError(f"The word {self.text!r} has no form {name!r}; it has {sorted(self.forms)}.") from None


def split(text: str) -> list[str]:
    """The entries of a list written with commas: "red, light blue" is two."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def plain(text: str) -> list[Word]:
    """Words that have one form only."""
    return [Word(entry) for entry in split(text)]


def numbers(text: str) -> list[Word]:
    """Number words from zero on."""
    return [Word(entry, {"value": str(i)}, number=i) for i, entry in enumerate(split(text))]


# --- English ---

PRONOUNS = {
    "girl": {"they": "she", "them": "her", "their": "her", "theirs": "hers", "themself": "herself"},
    "boy": {"they": "he", "them": "him", "their": "his", "theirs": "his", "themself": "himself"},
}
"""Forms of a character are named after the plural pronouns, which are the same for everybody: `{hero.they}`."""


def characters(gender: str, names: str) -> list[Word]:
    """Names of girls or boys, with their pronouns and their gender."""
    return [Word(name, PRONOUNS[gender] | {"gender": gender}) for name in split(names)]


def article(text: str) -> str:
    """The text with a or an before it. The exceptions are those that the stories use."""
    sounds_like_consonant = text.startswith(("uni", "use", "one"))
    vowel = (text[0] in "aeiou" and not sounds_like_consonant) or text.startswith(("hour", "honest"))
    return f"{'an' if vowel else 'a'} {text}"


def plural(text: str) -> str:
    """The regular plural of an English noun; others are written out in the list."""
    if text.endswith(("s", "x", "sh", "ch")):
        return text + "es"
    if text.endswith("y") and text[-2] not in "aeiou":
        return text[:-1] + "ies"
    return text + "s"


def nouns(text: str) -> list[Word]:
    """English nouns or adjectives with their article (`an`) and plural (`s`); "mouse/mice" gives an irregular one."""
    words = []
    for entry in split(text):
        singular, _, irregular = entry.partition("/")
        words.append(Word(singular, {"an": article(singular), "s": irregular or plural(singular)}))
    return words


# --- French ---

VOWELS = "aeiouyàâäéèêëîïôöùûüœ"
ASPIRATED = ("hibou", "hérisson", "haricot", "hamster", "homard")
"""Words whose h bars elision, as in "le hibou"; before every other h the article elides, as in "l'hirondelle"."""


def elides(text: str) -> bool:
    """Whether le, la, de and que lose their vowel before this word."""
    initial = text[0].lower()
    return initial in VOWELS or (initial == "h" and text.lower() not in ASPIRATED)


def personnages(genre: str, noms: str) -> list[Word]:
    """French first names with the pronouns, the endings that agree with them, and `de` and `que` elided."""
    f = genre == "f"
    formes = {
        "gender": genre,
        "il": "elle" if f else "il",
        "lui": "elle" if f else "lui",
        "le": "la" if f else "le",
        "e": "e" if f else "",
        "x": "se" if f else "x",
        "f": "ve" if f else "f",
        "er": "ère" if f else "er",
        "et": "ète" if f else "et",
        "en": "enne" if f else "en",
        "eur": "euse" if f else "eur",
        "un": "une" if f else "un",
        "enfant": "fille" if f else "garçon",
        "fils": "fille" if f else "fils",
        "ami": "amie" if f else "ami",
    }
    return [Word(nom, formes | {"de": f"d'{nom}" if elides(nom) else f"de {nom}"}) for nom in split(noms)]


def noms(text: str) -> list[Word]:
    """French nouns, "f poupée" or "m ours/ours": gender, plural, and each article that changes before them."""
    words = []
    for entry in split(text):
        genre, _, rest = entry.partition(" ")
        if genre not in ("m", "f"):
            raise ValueError(f"A French noun is written with its gender, as in 'f poupée': {entry!r} has none.")
        nom, _, irregular = rest.partition("/")
        f, elided = genre == "f", elides(nom)
        pluriel = irregular or (nom if nom[-1] in "sxz" else nom + ("x" if nom.endswith(("eau", "eu")) else "s"))
        forms = {
            "gender": genre,
            "s": pluriel,
            "un": f"une {nom}" if f else f"un {nom}",
            "le": f"l'{nom}" if elided else f"{'la' if f else 'le'} {nom}",
            "du": f"de l'{nom}" if elided else f"{'de la' if f else 'du'} {nom}",
            "au": f"à l'{nom}" if elided else f"{'à la' if f else 'au'} {nom}",
            "de": f"d'{nom}" if elided else f"de {nom}",
            "ds": f"d'{pluriel}" if elided else f"de {pluriel}",
            "son": f"{'son' if elided or not f else 'sa'} {nom}",
            "mon": f"{'mon' if elided or not f else 'ma'} {nom}",
            "ton": f"{'ton' if elided or not f else 'ta'} {nom}",
            "ce": f"{'cette' if f else 'cet' if elided else 'ce'} {nom}",
            "il": "elle" if f else "il",
            "lui": "elle" if f else "lui",
            "pronom": "la" if f else "le",
            "e": "e" if f else "",
            "x": "se" if f else "x",
            "er": "ère" if f else "er",
            "et": "ète" if f else "et",
            "eau": "elle" if f else "eau",
            "tout": "toute" if f else "tout",
        }
        words.append(Word(nom, forms))
    return words


def adjectifs(text: str) -> list[Word]:
    """French adjectives, "vert/verte": forms m and f (and their plurals), chosen by agreement: `{couleur:objet}`."""
    words = []
    for entry in split(text):
        m, _, f = entry.partition("/")
        f = f or m
        words.append(Word(m, {"m": m, "f": f, "ms": m if m[-1] in "sx" else m + "s", "fs": f + "s"}))
    return words


def take(words: Sequence[Word], count: int) -> list[Word]:
    """The first, commonest words of a list: a smaller size of the same grammar."""
    return list(words[:count])


def texts(words: Iterable[Word]) -> list[str]:
    """The plain texts of some words."""
    return [word.text for word in words]
