"""The easy stories: four short plots and few words, so that a very small model learns them in less than a minute.

Every story is shorter than 256 characters. What the model has to learn beyond the words is small and complete: which
pronoun goes with which name, whose thing it was and what colour, and to subtract.
"""

from minilm.data.stories.engine import Grammar
from minilm.data.stories.english import NUMBERS, relatives
from minilm.data.stories.template import compile_grammar, one_of
from minilm.data.stories.words import characters, nouns, plain

LISTS = {
    "GIRL": characters("girl", "Mia, Anna, Lily, Zoe, Emma, Nora, Ruby, Ivy"),
    "BOY": characters("boy", "Tom, Ben, Max, Sam, Leo, Finn, Hugo, Jack"),
    "RELATIVE": relatives("girl mom, boy dad, girl sister, boy brother"),
    "ANIMAL": nouns("dog, cat, fox, bird, duck, owl, frog, hen"),
    "TOY": nouns("ball, kite, boat, hat, drum, book, cup, lamp"),
    "COLOR": nouns("red, blue, green, orange, white, black"),
    "FOOD": nouns("apple, nut, pear, cake, egg, plum"),
    "PLACE": plain("park, garden, lake, farm, school, river"),
}

RULES = {
    "FRIEND": "[friend=GIRL]|[friend=BOY]",
    "GLAD": "happy:3|glad:2|proud",
}

PLOTS = {
    "lost": """
        {hero} had [color.an=COLOR] [toy=TOY]. One day, {hero.they} lost it near the [place=PLACE]. {hero} was sad.
        "I lost my {color} {toy}," {hero.they} told [animal.an=ANIMAL]. The {animal} ran to the {place} and found the {toy}. {hero} was [GLAD].""",
    "share": """
        {hero} had [had=4..9] [food.s=FOOD]. Then {hero.they} met [FRIEND]. "I am hungry," said {friend}.
        {hero} gave {friend.them} [gave=2..had-2] {food.s}. "Thank you, {hero}," said {friend}. Now {hero} had {had-gave} {food.s}. They were [GLAD].""",
    "pet": """
        {hero} went to the [place=PLACE] and saw [animal.an=ANIMAL]. The {animal} was [cold:2|wet|sad:2]. "Come with me," said {hero}.
        {hero.they^} took the {animal} home. {hero.their^} [relative=RELATIVE] [smiled:2|laughed]. "You have a new friend, {hero}," said {hero.their} {relative}.""",
    "gift": """
        {hero} made [color.an=COLOR] [toy=TOY] for {hero.their} friend [FRIEND]. "What is it?" asked {friend}. "It is {toy.an}," said {hero}.
        {friend} [loved:2|liked] the {color} {toy}. [They:2|{friend.they^}] took it to the [place=PLACE]. {hero} was [GLAD].""",
}

STORY = "[Once there was:2|There was] a [girl named [hero=GIRL]|boy named [hero=BOY]]. [PLOT]"


def build() -> Grammar:
    """The grammar of the easy stories."""
    return compile_grammar("easy", STORY, RULES | {"PLOT": one_of(PLOTS)}, LISTS, NUMBERS)
