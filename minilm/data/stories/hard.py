"""The hard stories: eighteen plots and about 2,300 words.

The twelve plots of the medium size with a larger vocabulary and richer portraits, and six more, in which what was said
has to be combined: a clue and two suspects, a way there and the same way back in reverse, whose turn it is on which
day, what a letter promised, a sum of two numbers or a half.
"""

from minilm.data.stories import medium
from minilm.data.stories.engine import Grammar
from minilm.data.stories.english import LISTS, NUMBERS
from minilm.data.stories.template import compile_grammar, one_of

RULES = medium.RULES | {
    "OPENING": """
        [Once upon a time:3|Long ago|Many years ago|Not so long ago|Not far from here|In [TOWN]:4|In the town of [TOWN]:2|Near [TOWN]:2|In the hills of [TOWN]|In the [VIEW] streets of [TOWN]:2|Between [TOWN] and the [VIEW] [PLACE]:2],
        there [was:3|lived:3] [.an=TRAIT][| and [TRAIT2]] [girl [AGED] [NAMED] [hero=GIRL]|boy [AGED] [NAMED] [hero=BOY]][ [SURNAME]:4|]. [WEARS]""",
    "FRIEND": "[[friend=GIRL]|[friend=BOY]][| [SURNAME]:2]",
    "WEARS": """
        {hero.they^} wore [.an=LOOK] [COLOR] [WEAR], [COLOR] [SHOES] and [.an=COLOR] ring.
        |{hero.they^} wore [.an=COLOR] [wear1=WEAR], [LOOK] [COLOR] [SHOES] and [.an=LOOK] [CLOTH] [WEAR].
        |In {hero.their} pockets were [.an=COLOR] [THING], [NUMBER] [.s=SOUVENIR] and [.an=LOOK] [THING].
        |{hero.their^} friends were [GIRL], [BOY] and [.an=TRAIT] [ANIMAL].
        |{hero.they^} had [NUMBER] [.s=SOUVENIR], [.an=COLOR] [TOY] and [COLOR] [eyes|hair ribbons|pajamas|wallpaper|curtains].
        |{hero.they^} [HOW] played the [INSTRUMENT], loved [dish=MEAL] and hated [dish2=MEAL].""",
    "CLOTH": "wool|cotton|silk|linen|felt|velvet|leather|denim|corduroy|tweed",
    "THING": "comb|thimble|pencil|marble|spoon|whistle|mirror|candle|magnet|notebook|compass|handkerchief|sponge|peg|eraser|rubber band|paper clip",
    "PORTRAIT": """
        {hero.they^} liked [.s=FOOD], playing [GAME] and [LIKES].
        |{hero.their^} room was full of things: [.an=COLOR] [thing=TOY], [.an=LOOK] [thing2=TOY] and [NUMBER] [.s=SOUVENIR].
        |{hero.they^} wanted to be [.an=JOB] one day and to live near [.an=VIEW] [PLACE].
        |{hero.their^} [RELATIVE] was [.an=TRAIT] [JOB], and {hero.their} neighbor was [.an=TRAIT] [JOB].
        |{hero.they^} collected [COLOR] [.s=SOUVENIR] and knew [NUMBER] songs about [.s=ANIMAL].""",
    # Plots that either of two may play.
    "CLUE": """
        that was {_2}.
        <culprit=_1>"[Now I know who it was:3|That explains everything:2|So it was the {_1}:3|I should have guessed it:2|The case is solved:2]!" [SAY] {hero}, and [HOW] [WENT] straight to the {_1}. "[Did you take the {toy}?:3|Where is the {toy}?:3|Is there a hole in your {_2} {_3}?:3|What have you done with it?:2]" {hero.they} [ASK].
        The {_1} [turned [red|pale|away]:3|looked at the ground:2|coughed [HOW]:3|[HOW] pulled the {_3} straight:3|was silent for [WAIT]:3]. "[Yes, I took it:3|I only borrowed it:3|I wanted it so much:3|Nobody ever gives me {toy.an}:2|I could not resist:2|It looked so [FINE]:3], [but I am sorry:3|please forgive me:2|here it is:3|and I am ashamed:2]," [SIGH] the {_1}.
        [So:3|And so:2|That is how] {hero.their} {relative} got the {color} {toy} back, and the {_4}, who had done nothing, [got [.s=FOOD] for the shock:3|laughed for [WAIT]:3|was invited to [MEAL]:3|forgave them all:2|was [VERY][GLAD]:3].""",
    "MISHAP": """
        the {_1} [went out of tune:2|fell to the ground:3|made a terrible noise:3|fell silent:3|began to rattle:2]. <unlucky=_2>"[What shall I do now?:3|Can we go on without the {_1}?:3|Has anybody got some glue?:2|Did you hear that?:2]" [ASK] {_2}. "[Play on:2|Stay calm:2|Do not worry:3|Breathe deeply:2|Laugh, and they will laugh too:2], [my {_3} will fill in:4|I will mend it with [STUFF]:5|nobody noticed:2|it happens to everybody:2]," [REPLY] {_4} [HOW].""",
    "DETECTIVE": "puppy:2|spyglass|flashlight|assistant|helper|notebook",
    "SPOT2": "In the hallway|On the stairs|On the doormat|Under the window|Beside the stove|On the carpet|Near the back door|In the empty box|Between two books|On the kitchen floor",
    "TURN": """
        <turn=_1>The next {_2}, [both of them came:3|it was [WEATHER], and both came:3|they met again [spot=SPOT]:3]. "[Whose turn is it?:3|Who may have it today?:3|Which day is it?:2|Is it yours or mine?:2]" [ASK] {_3}. "It is {_2}," [REPLY] {_4}. So {_1} [HOW] took the {color} {toy} [and played until [supper|noon|it got dark]:3|home for a whole day:3|and carried it to the [PLACE]:4], and {_5} [played [GAME] instead:4|waited [HOW]:3|watched:2|had [MEAL]:3|read a book about [.s=ANIMAL]:4]. [They never quarreled again:2|Rules can be a good thing:2|A promise is a promise:2|It works to this day:2|Both were [VERY][GLAD]:3].""",
}

PLOTS = medium.PLOTS | {
    "detective": """
        {hero.their^} [relative=RELATIVE] [owned:2|had:3] [.an=LOOK] [color=COLOR] [toy=TOY], which [stood:2|was kept:2|lay:2] [INDOORS]. [WHEN], it was gone!
        "[Who has taken my {toy}?:3|Where can it be?:3|Has anybody seen the {toy}?:3|What shall I do without it?:2]" [ASK] {hero.their} {relative}. "[Leave it to me:3|I will find it:3|Give me [WAIT]:4|Let me look for clues:3|Nobody move:2]," [SAY] {hero}.
        Only two [neighbors:3|visitors:2|guests:2] had been in the house that [week:2|day:2]: [.an=TRAIT] [animal=ANIMAL] in [color2.an=COLOR] [wear=WEAR], and [.an=TRAIT] [animal2=ANIMAL] in [color3.an=COLOR] [wear2=WEAR]. 
        {hero} [HOW] searched the whole house with [a magnifying glass:2|a candle:2|a lantern:2|[.an=TRAIT] [DETECTIVE]:4]. [SPOT2], {hero.they} found a [clue=thread:2|button|scrap of cloth:2|ribbon|shoelace|tassel|bit of wool] [[CLUE(animal,color2,wear,animal2)]|[CLUE(animal2,color3,wear2,animal)]]""",
    "treasure": """
        {hero} [HOW] looked [INDOORS] and found [an old|a torn|a folded|a strange|a stained|a hand-drawn|a faded|a secret] map that had belonged to {hero.their} [relative=RELATIVE]. "Go first to the [VIEW] [place=PLACE], then to the [VIEW] [place2=PLACE], and from there to the [VIEW] [place3=PLACE]," it said in [COLOR] letters. "[Dig:3|Look:3|Search:2] [spot=beneath a willow|at the foot of an oak|beside the well|near the gate|between two stones|under a bush|behind the wall|under the bridge|next to a milestone|beside a fence|in the tall reeds|among the ferns|on top of a hillock|under a flat rock|behind a statue|in the sand|by the roadside|in a hollow]!"
        [WHEN], {hero} and [FRIEND] set off with [.an=LOOK] shovel and [NUMBER] [.s=FOOD]. "[What do you think we will find?:3|What will be there?:2|What are you hoping for?:3|What can it be?:2|What shall we find there?:2]" [ASK] {friend}. "[We will see:3|I hope for [NUMBER] [.s=SOUVENIR]:4|Gold, of course:2|Something better than [.s=FOOD]:4|I only know that my {relative} never told lies:3|Nothing but [.s=ANIMAL], I am afraid:4]," [REPLY] {hero}.
        They [HOW] passed the {place} and the {place2}, and at the {place3} they [HOW] dug {spot}. [After [WAIT]:3|Just before sunset:2|When they wanted to give up:2], the shovel hit [a box:2|a chest:3|a barrel|an iron pot|a clay jar] wrapped in [CLOTH]. In it were [half=4..12] [gem=pearls:2|coins:3|rubies|crystals|rings|medals] for each of them, {half+half} in all, and [a note:3|a letter:2|a card]: "[Share well:3|Well done:2|Now hide something yourself:2|Do not forget the [.s=ANIMAL]:3|Gold is good, friends are better:2]."
        [^=HOW] they carried their {half+half} {gem} home: from the {place3} to the {place2}, from the {place2} to the {place}, and from there to {hero.their} {relative}, who [laughed:2|was [VERY][GLAD]:4|cooked [MEAL] for them:4|had been waiting with [.s=FOOD]:3].""",
    "quarrel": """
        {hero} and [FRIEND] [had found:2|found:3|discovered:2] [color.an=COLOR] [toy=TOY] near the [VIEW] [place=PLACE]. "[I saw it first:3|It is mine:3|Let go of it:2|You have enough things:2|Give it to me:2]!" [SAY] {friend}. "[No, it is mine:3|You always say that:3|But I picked it up:3|I will tell my [RELATIVE]:3|You cannot even use {toy.an}:2]!" [REPLY] {hero}.
        They [pulled:2|shouted:2|pushed:2|argued:3] for [WAIT], [until the {toy} almost broke:3|until [.an=ANIMAL] ran away in fear:4|until both were [SAD]:3|and did not speak for [NUMBER] days:3]. [Then:3|At last:2|In the end:2], [.an=TRAIT] [JOB] [came by:2|had heard enough:2|stepped between them:2]. "[day=WEEKDAY] is {hero}'s day, and [day2=WEEKDAY] is {friend}'s day," [said:3|decided:3|ruled:2|ordered] the wise judge. "[Is that fair?:3|Do you agree?:3|Can you live with that?:2]" "[Yes:3|All right:3|We will try:2|That is fair:2]," [SIGH] the two.
        [[TURN(hero,day,friend,hero,friend)]|[TURN(friend,day2,hero,friend,hero)]]""",
    "wish": """
        {hero} [did not believe in [magic|wishes|miracles|fairies]:3|knew nothing of [magic|spells|enchanted animals]:2|was always full of wishes:2|had [NUMBER] wishes and no money:2]. [WHEN], {hero.they} [HOW] freed [.an=TRAIT] [animal=ANIMAL] that was caught [SPOT] near the [VIEW] [place=PLACE]. "[THANKS]! [You have two wishes:3|I can grant two wishes:2|For that you may wish for two things:2]," [SAY] the {animal}, which was [enchanted:2|magical:2|really a [king|queen|prince|princess|witch|wizard]:4].
        {hero} thought for [WAIT]. "[First:2|To begin with], I want [color.an=COLOR] [toy=TOY] that [glows in the dark:2|never breaks:2|can talk:2|plays music:2|can fly:2|smells of [.s=FOOD]:3|makes everybody laugh:2]," {hero.they} [said:3|began:2|wished], "and [then:2|besides:2|after that|last of all] [many=5..20] [food.s=FOOD] [for my [RELATIVE]:4|as big as [.s=PLANT]:4|that never run out:2|every [WEEKDAY]:3]."
        [There was a flash:2|It thundered:2|The wind blew:2|The {animal} clapped twice:2|Somewhere a bell rang:2], and there they were: the {color} {toy} and {many} {food.s}. But [soon:2|by [WEEKDAY]:3|after [NUMBER] days:3], {hero} was [VERY][SAD]: [the {toy} never stood still:2|the {food.s} made {hero.them} sick:2|nobody came to play any more:3|everybody was jealous:2|all [.s=ANIMAL] of [TOWN] wanted some:3].
        "[Are you not happy?:3|What is wrong now?:2|Was that not what you wanted?:3]" [ASK] the {animal}. "[Take everything back:3|Please take the {toy} and the {food.s} back:4|I do not need all this:3|I wish I had never wished:2]. [Be my friend instead:3|Play [GAME] with me instead:4|Just stay for [MEAL]:4|Tell me about [TOWN] instead:4]," [SIGH] {hero}.
        So the {color} {toy} and the {food.s} [vanished:3|disappeared:3|turned into [.s=SOUVENIR]:4|flew away:2], the {animal} stayed, and {hero} was [VERY][GLAD].""",
    "letter": """
        {hero} [loved letters:2|got letters only in [MONTH]:3|looked into the mailbox every [WEEKDAY]:3|had not had any news for [NUMBER] weeks:3]. [WHEN], [the mailman:2|a messenger:2|a neighbor|a sailor|the [JOB]:4] brought {hero} a letter in [.an=COLOR] envelope. It came from [FRIEND], who had moved to [town=TOWN]. "[Dear:4|Dearest|My dear:2] {hero}," it said, "I live near [.an=VIEW] [place=PLACE] now, and I have [.an=TRAIT] [animal=ANIMAL] and [color.an=COLOR] [toy=TOY]. [Come on:2|Visit me on:2|I expect you on] [day=WEEKDAY] and bring [food.s=FOOD]!"
        "[May I go to {town}?:3|May I visit {friend}?:3|Can I go there?:2|Will you let me go to {town}?:2]" [ASK] {hero}. "[Yes, it is only [NUMBER] miles from here:4|Yes, take the train at [NUMBER]:4|Only if you take your [WEAR]:4|Only if you eat your [MEAL] first:4|Yes, but be back on [WEEKDAY]:4|I will bring you to the station:3]," [REPLY] {hero.their} [relative=RELATIVE].
        On {day}, {hero} packed [NUMBER] {food.s} and [.an=FINE] [toy2=TOY] as a present, [put on [.an=COLOR] [WEAR]:4|kissed {hero.their} {relative}:2|drank some tea:2] and [HOW] set off for {town}. [The way led past [.an=VIEW] [PLACE]:4|On the train sat [NUMBER] [.s=JOB]:4|It [rained|snowed|was [WEATHER]] all the way:3].
        {friend} [was already waiting:3|came running:3|stood [SPOT]:4] and [HOW] showed {hero.them} the {place}, the {animal} and the {color} {toy}. They [ate the {food.s}:3|played with the {toy2}:3|fed the {animal}:3|talked for [WAIT]:3], and [when it was time to leave:2|in the evening:2|much too soon:2], {friend} [said:2|promised:2|whispered]: "[Next time I will come to you:3|Write to me about the [TOY]:4|Come again in [MONTH]:4|I missed you more than [.s=FOOD]:3]."
        """,
    "concert": """
        In the band, {hero} played the [inst=INSTRUMENT], [FRIEND] the [inst2=INSTRUMENT], and [.an=TRAIT] [animal=ANIMAL] the [inst3=INSTRUMENT]. [Every [WEEKDAY]:4|For [NUMBER] weeks:3|Day after day:2], they practiced [HOW] [SPOT] until [.s=ANIMAL] came to listen.
        [WHEN], they gave a concert at the [VIEW] [place=PLACE]. [first^=5..15] [.s=JOB] and [second=5..15] [.s=ANIMAL] came: that made {first+second} guests, and [all were [VERY]quiet:3|some wore [COLOR] [SHOES]:4|most brought [.s=FOOD]:4|one had even come from [TOWN]:4].
        But [in the middle of a [waltz|march|polka|song|lullaby]:4|at the very first note:2|after [NUMBER] minutes:4], [[MISHAP(inst,hero,inst2,friend)]|[MISHAP(inst2,friend,inst,hero)]] After [WAIT], the {inst}, the {inst2} and the {inst3} sounded [sweeter:2|better:3|louder:2|merrier] than before. All {first+second} guests [clapped:3|danced:3|sang along:2|threw [.s=PLANT]:4], and {hero}, {friend} and the {animal} [bowed [NUMBER] times:4|ate [MEAL] together:4|were [VERY][GLAD]:4].""",
}

STORY = "[OPENING] [[PORTRAIT] [PLOT]:2|[OWNER] [PLOT] [PETEND]]"


def build() -> Grammar:
    """The grammar of the hard stories."""
    return compile_grammar("hard", STORY, RULES | {"PLOT": one_of(PLOTS)}, LISTS, NUMBERS)
