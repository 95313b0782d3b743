"""The medium stories: twelve plots, which the hard size tells too, with a larger vocabulary.

In every plot something from the beginning has to be remembered at the end: who owned what, where it was, how many are
left. Those words cost a model nothing once it can look back, and very much before.
"""

from minilm.data.stories.engine import Grammar
from minilm.data.stories.english import NUMBERS, medium_lists
from minilm.data.stories.template import compile_grammar, one_of

STORY = "[OPENING] [[PORTRAIT] [PLOT]:2|[OWNER] [PLOT] [PETEND]]"

RULES = {
    "OPENING": """
        [Once upon a time:5|Long ago:2|Many years ago|Not so long ago|Not far from here|In [TOWN]:5|In the town of [TOWN]:3|Near [TOWN]:2|In the hills of [TOWN]],
        there [was:3|lived:3] [.an=TRAIT][| and [TRAIT2]] [girl [AGED] [NAMED] [hero=GIRL]|boy [AGED] [NAMED] [hero=BOY]][ [SURNAME]:2|].""",
    "TRAIT2": "happy|lovable|very small|rather tall|somewhat spoiled|well-liked|red-haired|freckled|long-legged|lucky|hard-working|good-hearted",
    "AGED": "of [age=5..12]:2|with [[COLOR] [shoes|glasses|mittens]|[HAIR] hair]:2",
    "HAIR": "black|brown|blond|red|curly|short|long|straight|wild|frizzy|tangled|silky",
    "NAMED": "named:3|called:3",
    "FRIEND": "[friend=GIRL]|[friend=BOY]",
    "WHEN": """
        One [WEATHER] [TIME] in [MONTH]:3|On [.an=WEATHER] [WEEKDAY] in [MONTH]:3|On [.an=WEATHER] [MONTH] [TIME]:2
        |On the [DAY] of [MONTH], [.an=WEATHER] [TIME]:3|Early one [WEEKDAY] in [MONTH]:2|One [WARM] [TIME] in [SUMMER]:2|One [FROST] [TIME] in [WINTER]:2""",
    "SUMMER": "June|July|August",
    "WINTER": "December|January|February",
    "WARM": "hot:3|sultry|lazy:2|scorching|golden|glorious:2|long:2|perfect",
    "FROST": "snowy:3|icy:2|frosty:2|freezing:2|dark:2|bitter|wintry",
    "DAY": "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|twentieth|last",
    # Something to know about a character before the story begins. Of a pet one hears again at the end.
    "PORTRAIT": """
        {hero.they^} liked [.s=FOOD], playing [GAME] and [LIKES].
        |{hero.they^} wore [.an=LOOK] [COLOR] [WEAR] and [COLOR] [SHOES].
        |{hero.their^} room was full of things: [.an=COLOR] [thing=TOY], [.an=LOOK] [thing2=TOY] and [NUMBER] [.s=SOUVENIR].
        |{hero.they^} wanted to be [.an=JOB] one day and to live near [.an=VIEW] [PLACE].
        |{hero.their^} [RELATIVE] was [.an=TRAIT] [JOB], and {hero.their} best friend was [.an=TRAIT] [ANIMAL].
        |{hero.they^} had [NUMBER] [COLOR] [.s=SOUVENIR], and could play the [INSTRUMENT].""",
    "SHOES": "boots|shoes|socks|gloves|trousers|mittens|slippers|sandals|stockings|suspenders|shorts|clogs",
    "LIKES": "[COLOR] [.s=TOY]:3|[WEATHER] [TIME]s|[WEATHER] [WEEKDAY]s|stories about [TRAIT] [.s=ANIMAL]:2|the [INSTRUMENT]",
    "OWNER": """
        {hero.they^} had [.an=TRAIT] [FUR] [pet=PET] [named|called] [petname=PETNAME], which [slept:2|lived:2|liked to sit] [INDOORS].""",
    "FUR": "black:3|white:3|brown:3|gray:2|spotted:2|striped|golden|red|cream-colored",
    "PETEND": """
        [Only {petname} the {pet} slept through it all:2|And {petname} the {pet} was waiting at home:2|And {petname} the {pet} [got some [.s=FOOD]:3|slept [INDOORS]:3|was [VERY][GLAD], too:2]].""",
    # How somebody speaks. Each rule ends a quotation: "...," said
    "SAY": "said:6|called:3|whispered:2|cried:3|exclaimed:2|announced|murmured|declared|laughed:2|shouted:2|sang|cheered|stammered|chuckled|breathed|beamed",
    "REPLY": "said:5|answered:4|replied:4|whispered:2|explained:2|called:2|muttered|murmured|cried|laughed|returned|admitted|mumbled|confessed",
    "SIGH": "said:5|sighed:3|whispered:3|sobbed:2|cried:2|mumbled:2|answered:2|wept|stammered|sniffed|groaned|wailed",
    "ASK": "asked:6|wondered:2|said:2|inquired:2|whispered|called|cried|murmured",
    "THANKS": """Thank you:4|Thank you so much:3|Thanks a lot:2|How kind of you:2|That is very kind of you:2|You are so good to me
        |I will never forget this|You have saved the day|What would I do without you|You are a true friend|A thousand thanks|You are an angel""",
    "WOW": "Wow:3|Oh:3|Look:2|Hooray:2|My goodness|How wonderful|What a surprise|Good heavens|I can hardly believe it|Goodness me|Bravo",
    "WAIT": "a moment:2|a minute:2|a while:2|an hour:2|half an hour|a few minutes:2|[NUMBER] minutes:5|[NUMBER] hours:2",
    # What follows an adjective of character or a mood.
    "VERY": "very :3|so :2|really :2|:2|quite :2|rather :2|truly ",
    "NUMBER": "three:3|five:2|seven:2|ten:2|four:2|six:2|eight:2|nine:2|twelve:2|eleven|fifteen|twenty|two",
    "FOODS": "[.s=FOOD]",
    # Endings. In those with _1 and _2 either of two characters may have either part.
    "TELL": """
        [At dinner:2|That night:3|In the evening:2|At bedtime:2|When the moon came up|Before going to sleep|Back at home:2], {hero} told {hero.their} [relative=RELATIVE]""",
    "WIN": """
        [Halfway:3|At first all went well, but then:2|Near the [PLACE]:3|After [NUMBER] steps:2|Just before the end:2], {_1} [tripped over [a root:2|a stone:2|a hose|[.an=ANIMAL]:3]:4|lost a shoe:3|stopped to look at [.an=ANIMAL]:3|took the wrong turn:2|had to sneeze [NUMBER] times:2|was out of breath:2|slipped in the mud:2], and {_2} [HOW] ran past.
        <winner=_2>So it was {_2} who [reached:2|got to:2|came to] the {place2} first and [won:3|got:2|received] the {prize} from {hero.their} {relative}. {_1} was [VERY][SAD].
        "[You ran well:3|You will win next time:3|It was only bad luck:3|Do not cry:2|I was just lucky:2|You are a good runner:2], {_1}. [The {prize} is for both of us:3|You may have my {prize} until [WEEKDAY]:3|We can share the {prize}:3|Let us play with the {prize} together:3|Come and eat [FOODS] with me:3|Let us race again on [WEEKDAY]:3]," [SAY] {_2}. "[THANKS]," [REPLY] {_1}. <loser=_1>They [walked home:2|went back to the {place}:3|sat down [SPOT]:3|shook hands:2|drank some water:2] and were both [VERY][GLAD].""",
    "BREAK": """
        [But then:3|Suddenly:3|After [WAIT]:3|Before long:2], {_1} [tripped over [a root:2|a stone:2|[.an=ANIMAL]:3]:3|was not careful:2|turned around too fast:2|looked at [.an=ANIMAL] instead:3|let go for a moment:2|had to sneeze:2], and the {_3} [broke in two:3|fell into the water:3|got a big hole:2|was torn:2|came apart:2|hit the ground:2|rolled under a cart:2].
        <unlucky=_1>"[Oh no:3|Look what I have done:2|What a day:2|This is terrible:2|It cannot be true:2|Everything goes wrong today:2]! My {_2} {_3} is [broken:3|ruined:3|spoiled:2|not good for anything now:2]," [SIGH] {_1}. {_4} [felt sorry for {_1.them}:3|put an arm around {_1.them}:3|thought for [WAIT]:3|gave {_1.them} [.an=COLOR] handkerchief:3|offered {_1.them} some [FOODS]:3].
        "[You can play with my {_6}:3|Take my {_5} {_6} for now:3|We can share my {_6}:3|My {_5} {_6} is big enough for two:2|I will lend you my {_6}:3]," [REPLY] {_4}. "[Really?:3|May I?:3|Are you sure?:3|Is that all right?:2|Until [WEEKDAY]?:3|Will you not miss it?:2]" [ASK] {_1}. "[Of course:3|Sure:3|That is what friends are for:3|Only if you are careful:2|You would do the same for me:3]!" [REPLY] {_4}.
        So they [HOW] [took turns with:3|shared:3|played with] the {_6} [until [supper:2|it got dark:2|the bell rang|the sun went down:2]|all [afternoon|day|evening]:2].
        [The next day:3|On [WEEKDAY]:3|That evening:3], {_1}'s [RELATIVE] [mended:3|repaired:3|fixed:3] the {_2} {_3} with [STUFF]. Now {_1} had {_1.their} {_3} [again:2|back:2], and {_4} still had {_4.their} {_6}. [But they liked to share:3|But best of all, each had a friend:3|They kept on sharing:3|Both were [VERY][GLAD]:4|Since then they swap them every [WEEKDAY]:3].""",
    "FIND": """
        {_1} [was not careful:3|could not keep still:3|had chosen badly:2|was too sure of it:2|forgot to be quiet:2]. [Then:3|At last:3|After [WAIT]:3|A little later:2], {hero} [heard a [giggle:3|sneeze:3|cough:2|noise:2]:4|saw [.an=COLOR] [shoe:2|sleeve:2|sock]:4|followed some footprints:3|had an idea:2] and [looked:3|searched:2|peeked:2] {_2}. <earlier=_1>"[Found you:3|There you are:3|I see you:3|Got you:2], {_1}!" {hero.they} [SAY]. 
        "[Where is {_3}?:3|And where is {_3}?:3|Do you know where {_3} is?:3|Will you help me look for {_3}?:3|Have you seen {_3}?:3]" [ASK] {hero}. {_1} [laughed:3|only smiled:3|said nothing:3|pointed [HOW] the wrong way:3|shrugged:2|shook {_1.their} head:2], but [in the end:3|after [WAIT]:3|with the help of the {animal}:3|soon:3] {hero} found {_3} {_4}.
        [Next:2|After that:3|Then:2], it was {_1}'s turn to [count:3|seek:2|look for the others:2], since {_1.they} [was:3|had been] found first. They played until [supper:3|it got dark:3|the sun went down:3|it began to rain:2|everybody was hungry:2|{other}'s [RELATIVE] called:3], and [all three were [VERY][GLAD]:3|even the {animal} joined in:3|nobody wanted to stop:2|on [WEEKDAY] they played again:3|then they had some [MEAL]:4].""",
}

PLOTS = {
    "lost": """
        {hero} had [.an=LOOK] [color=COLOR] [toy=TOY] [and loved it very much:3|and took it everywhere:3|and kept it next to the bed|and was very proud of it:2
        |that nobody else could touch|and would not trade it for anything|that once belonged to {hero.their} [RELATIVE]:2|and played with it every day:2|and cleaned it every week].
        [WHEN], {hero.they} [WENT] to the [VIEW] [place=PLACE], and [when {hero.they} came home:2|before long:2|after [WAIT]:2|on the way back:2|suddenly:2|by noon], the {toy} was [gone:3|missing:2|nowhere to be seen:2].
        {hero} looked [spot=SPOT] and [spot2=SPOT], [but the {toy} was not there:3|but found only [.an=SOUVENIR]:3|but there was nothing at all:2|with no luck:2|but saw no sign of it].
        {hero.they^} [was [VERY][SAD]:4|felt [VERY][SAD]:3|started to cry:2|sat down and cried|did not know what to do:2|almost gave up].
        [animal.an^=ANIMAL] [came by:3|stopped:2|heard it:2|looked up:2|came closer:2|was passing by:2|sat nearby]. "[Why are you so [SAD]?:4|What is wrong?:2|What happened?:2|What are you looking for?:2|Can I help you?:2|Why this long face?]" [ASK] the {animal}.
        "I [lost:3|cannot find:3|have lost:2|miss:1|am looking for:2] my {color} {toy}," [SIGH] {hero}.
        The {animal} [thought for [WAIT]:2|nodded:2|smiled:2|scratched its head|listened [HOW]:2|sniffed the air] and [led {hero.them}:2|went with {hero.them}:2|showed {hero.them} the way:2|took {hero.them}] back to the {place}.
        There, [spot3=SPOT], [was:3|lay:3|they found] the {color} {toy}[!|, [dusty|wet|muddy|cold|a little dirty:2|safe and sound:2|as good as new]!]
        "[THANKS]!" [SAY] {hero}, [and they danced [for joy|in a circle|around a tree]|and gave the {animal} [a hug:2|a kiss|some [FOODS]:2|a big smile]|[VERY][GLAD] again]. [From that day on:3|After that:2|From then on:2], {hero} and the {animal} were [good friends:2|best friends:3|always together:2|friends for life].""",
    "share": """
        [WHEN], {hero.they} went to the [VIEW] [place=PLACE] with [had=6..12] [food.s=FOOD] in [a bag:2|a basket:2|a box:2|a bowl|a tin|{hero.their} pockets|[.an=COLOR] [bag|box]:2|a paper bag].
        {hero} [was [VERY]hungry:3|wanted to eat them all:3|could hardly wait for lunch:2|had picked them that morning|had got them from {hero.their} [RELATIVE]:3|had been saving them for [WAIT]|had bought them at the [PLACE]].
        [^=SPOT] sat [.an=TRAIT] [girl [NAMED] [friend=GIRL]|boy [NAMED] [friend=BOY]], who [had nothing to eat:3|looked [SAD]:3|had forgotten {friend.their} lunch:2|was all alone:2|was hungry, too:2|had dropped {friend.their} [MEAL]:2|had given everything to [.an=ANIMAL]].
        "[Are you hungry?:3|Would you like some {food.s}?:2|Do you like {food.s}?:3|Shall we share?:2|May I sit with you?:2]" [ASK] {hero}. "[Yes, please:3|Oh yes:2|Very much:2|I would love that:2|I have not eaten since [breakfast|yesterday|this morning]:2]," [REPLY] {friend}.
        So {hero} [HOW] gave {friend.them} [gave=2..had-2] {food.s}. "[THANKS]!" [SAY] {friend}.
        Now {hero} had {had-gave} {food.s} and {friend} had {gave}. 
        They [ate together:3|ate everything:2|sat [SPOT] and ate:3|ate and [laughed|talked|sang]:3|enjoyed every bite:2|had a small picnic:2] [until [the sun went down:2|it got dark|their bags were empty|the rain began|the bell rang|their families called]|and [told jokes|told each other stories|watched the clouds|played [GAME]:3|fed the crumbs to [.an=ANIMAL]:2|talked about the [PLACE]:2]].
        {hero} felt [VERY][GLAD]. [Sharing is fun:2|It is nice to share:2|It feels good to be kind:2|Food tastes better with a friend:2|That is how they became friends:3|A gift makes two people happy:2|One new friend is worth many {food.s}:2].""",
    "brave": """
        {hero} was [VERY]afraid of [fear=FEAR]. [Nobody else knew it:2|{hero.their^} [RELATIVE] knew it:3|Sometimes it kept {hero.them} awake:2|The other children laughed about it:2|It had always been so|That was {hero.their} secret:2].
        [WHEN], {hero.they} [heard:3|saw:3|met:2|found:2|noticed:2] [.an=TRAIT] [animal=ANIMAL] that [was stuck:3|needed help:2|was crying:2|had hurt its [leg:2|foot:2|nose|back|ear]:3|could not move|was lost:2|had fallen off a wall:2] [spot=SPOT] near the [VIEW] [place=PLACE].
        {hero} [wanted to run away:3|was [VERY]scared:3|took a deep breath:2|counted to [NUMBER]:2|closed {hero.their} eyes:2|trembled all over:2|thought of {fear}:3|shook like a leaf], but [the {animal} looked so [SAD]:3|nobody else was there:3|it was getting late:2|somebody had to do something:2|there was no time to lose:2|then {hero.they} stood up:2].
        "[Do not worry:3|I am here:2|Stay calm:2|Be brave:2|Hold still:2|Do not be afraid:2|Everything will be fine:2|Trust me], little {animal}," [said:5|whispered:3|called:2|murmured:2|cried|breathed] {hero}, "I will [help you:3|carry you:2|stay with you:2|get you out:2|bring you home:2|take care of you:2|not leave you alone]."
        {hero.they^} [climbed:2|crawled:2|reached:2|leaned:2|walked:2|jumped|slid] [HOW] [over a wall:2|through the mud:2|across the rocks:2|down the bank:2|under the branches:2|between the thorns:2|over a fence:2] and [picked up:3|pulled out:2|freed:2|lifted:2|saved:3|caught] the {animal}.
        The {animal} was [safe:4|free:2|warm again:2|[VERY][GLAD]:4]. "[THANKS]," it [whispered:2|said:3|seemed to say:2].
        [TELL] about the {animal}. "You are [very brave:3|so strong:2|a hero:3|braver than [.an=ANIMAL]:3|braver than I am:2|my little hero:2|the bravest child in town:2]!" [SAY] {hero.their} {relative}. [And {hero} was never afraid of {fear} again:3|After that, {hero} could laugh about {fear}:3|And {fear}? {hero} hardly thought about that any more:2].""",
    "make": """
        {hero} wanted to make [.an=FINE] [color=COLOR] [toy=TOY] for {hero.their} [relative=RELATIVE], who [was ill:2|had a birthday:3|was coming home:2|liked [COLOR] things:2|loved surprises:3|had lost an old one:2|lived far away:2|deserved a present:2].
        [WHEN], {hero.they} found some [stuff=STUFF] and [.an=LOOK] [piece:3|box:2|bag:2|roll:2|bundle] of [stuff2=STUFF] [INDOORS].
        First {hero.they} [cut:3|washed:2|measured:2|folded:2|bent:2] the {stuff}, then {hero.they} [glued:3|tied:2|nailed:2|sewed:2|pressed:2] the {stuff2} to it, and [after that:2|last of all:2|finally:2|in the end:2] {hero.they} painted everything {color}.
        It was [hard:3|slow:2|not easy:2|messy:2|fiddly|long] work, and the {toy} [broke:3|fell [down|apart|to the floor]:3|tipped over:2|came out crooked:2|looked more like [.an=TOY]:3|did not look right:2|was too small:2|got stuck].
        {hero} [was [VERY][SAD]:4|wanted to stop:2|was angry:2|sat down [INDOORS]:2|kicked the [table|chair|wall]:2|sighed [HOW]:2], but [tried again:3|did not give up:3|started over [HOW]:3|asked [.an=JOB] for help:3|had [another|a better|a new] idea:2|kept going:2].
        [At last:3|Finally:2|In the end:2|After [NUMBER] days:3|Just in time:2|Late at night:2], the {color} {toy} was [ready:3|done:2|finished:2|perfect:2], and {hero} [HOW] gave it to {hero.their} {relative}.
        "[WOW]! [This is the [best|nicest|prettiest|finest] {toy} in the [world:2|town|whole village]:4|I have always wanted [.an=FINE] {toy}:3|You made this {toy} yourself?:2|{color^} is my favorite color:3|Nobody has ever given me {toy.an}:2]!" [SAY] {hero.their} {relative}.
        {hero} [smiled:3|was [VERY][GLAD]:4|laughed:2|blushed:2|took a bow:2] and [had some [MEAL]:4|went to sleep:2|went out to play [GAME]:4|began to make [.an=TOY]:3|cleaned up the {stuff}:2].""",
    "shop": """
        {hero} had [had=9..20] coins [in a purse:2|in a jar:2|in {hero.their} pocket:3|in an old sock|from {hero.their} [RELATIVE]:4|for helping [the [JOB]:3|at the [PLACE]:3]] and wanted to buy [toy.an=TOY].
        [WHEN], {hero.they} [WENT] to the shop [beside:2|behind:2|near:3|next to:2|opposite] the [place=PLACE]. The [seller=shopkeeper:3|merchant:2|toymaker:2|trader|clerk|old woman:2|old man:2|saleswoman|lady|gentleman] [who owned it|in charge|behind the counter:2] [smiled:3|nodded:2|looked up:2|put on some glasses:2|came out of the back room|was [VERY]busy:2|wore [.an=COLOR] apron:3].
        "[Good [morning|day]:3|Hello:3|Welcome:2|Come in:2], [what would you like?:3|how can I help you?:2|what are you looking for?:2|what can I do for you?:2]" [asked:4|said:4|inquired:2] the {seller}. "I am looking for {toy.an}, [please:3|if you have one:2|but not too big a one|the best you have|[color.an=COLOR] one:2|any color will do]," [REPLY] {hero}.
        The {seller} [HOW] [climbed a ladder:2|opened a box:2|looked [INDOORS]:5|went to the back:2|searched the shelves:2|unlocked a cupboard] and [came back with:2|brought:2|held up:2|took out] [.an=FINE] {toy}. "It costs [cost=3..had-4] coins," [SAY] the {seller}.
        {hero} [HOW] [counted:3|took out:2|put down:2|paid:3|handed over:2] {cost} coins. Now there were {had-cost} left. [That was just enough for [some [MEAL]:3|a bag of [FOODS]:3]|{hero.they^} spent two of them on [FOODS]:2|{hero.they^} put them back [HOW]:2|{hero.they^} gave one of them to [.an=TRAIT] [girl|boy] outside:2|{hero.they^} saved them for [.an=TOY]:3].
        At the {place} {hero.they} met [FRIEND], who [looked at:2|pointed at:2|admired:2|asked about] the {toy}. "[Did it cost much?:3|Was it expensive?:2|How much was it?:3|What did it cost?:3|How many coins did you pay for it?:2]" [ASK] {friend}. "{cost^} coins, [from the {seller}:2|and worth every one:2|and I have {had-cost} left:3]!" [REPLY] {hero}.
        They [played with it:3|tried it out:2|took turns with it:3] [until [supper|it got dark|the sun went down|bedtime]|all [afternoon|day|evening]:3|[spot=SPOT]:3] and were [VERY][GLAD].""",
    "race": """
        {hero} and {hero.their} friend [FRIEND] both [loved to run:3|thought they were fast:2|wanted to win a prize:2|had new shoes:2|were good runners:2|liked to race:2|had trained for [WAIT]]. For the race, {hero} put on [.an=COLOR] [WEAR], and {friend} tied [.an=COLOR] [belt:2|ribbon:2|scarf:3|headband:2].
        [WHEN], they [decided:2|agreed:2|made up their minds|wanted:2] to race from the [place=PLACE] to the [place2=PLACE]. The winner would get [prize.an=TOY] from {hero.their} [relative=RELATIVE]. "[I will be first:2|You will never catch me:2|May the best runner win:2|I ran all week:2|I am as fast as [.an=ANIMAL]:3|Today is my day:2|Do not be [SAD] if you lose:2]!" [SAY] {friend}. "[We shall see:3|Just wait:2|I am not so sure:2|Catch me if you can:2|Tell me that at the {place2}:3]!" [REPLY] {hero}.
        The [JOB] [counted to [NUMBER]:3|shouted very loudly:2|waved [.an=COLOR] flag:3|blew a whistle:2|clapped twice|rang a bell:2], and off they [ran:3|went:2|raced:2|dashed|flew]. [[WIN(hero,friend)]|[WIN(friend,hero)]]""",
    "borrow": """
        {hero} had [color.an=COLOR] [toy=TOY], and {hero.their} [best friend:3|friend:2|neighbor:2|cousin] [FRIEND] had [color2.an=COLOR] [toy2=TOY].
        [WHEN], they took both to the [VIEW] [place=PLACE], [where they often met:2|where it was [VERY]quiet:2|where [.an=ANIMAL] lived:3|which was not far:2|to play [GAME] and have fun:3|because there was nothing to do at home:2]. [[BREAK(hero,color,toy,friend,color2,toy2)]|[BREAK(friend,color2,toy2,hero,color,toy)]]""",
    "hide": """
        {hero} [loved:3|liked:2|enjoyed] playing [GAME], but hide-and-seek [even more:2|most of all:3|twice as much]. [WHEN], {hero.they} played it [near:3|behind:2|around:2] the [place=PLACE] with {hero.their} friends [FRIEND] and [[other=GIRL]|[other=BOY]]. [They had done their homework:2|It was the last day of the holidays:2|Nobody wanted to go home:2|It was the idea of {friend}:3|{other} had brought [FOODS] for all:3|It was too [nice|early|quiet] to go home:3|Usually they played [GAME]:3].
        {hero} [leaned against [a tree:2|a wall:2|the fence]:3|closed {hero.their} eyes:3|sat down on a stone:2|turned around:2|pulled {hero.their} [COLOR] [hat:2|cap|hood] over {hero.their} eyes:4] and counted to [count=8..20]. {friend} [HOW] hid [spot=SPOT], and {other} [WENT] a bit further and hid [spot2=SPOT].
        "{count^}! [Here I come:4|I am coming:3|Ready or not:3|Now I will find you:3|I can hear you already:2|Watch out:2]!" [called:4|shouted:3|cried:3|sang:2|yelled:2] {hero}. First {hero.they} looked [spot3=SPOT], but there was only [.an=TRAIT] [animal=ANIMAL][ eating [FOODS]:3| fast asleep:2| with [NUMBER] young ones:2|:2].
        "[Have you seen my friends?:3|Did anybody come this way?:3|Where did they go?:3|Who is hiding near here?:2]" [ASK] {hero}. "[I saw nothing:3|I never tell:3|I was asleep:3|Give me [FOODS], then I will tell you:3|Somebody giggled over there:3|One of them has [a cold|muddy shoes|squeaky shoes]:3]," [REPLY] the {animal}[, and yawned:2|, and winked:2|, and went on eating:1|]. [[FIND(friend,spot,other,spot2)]|[FIND(other,spot2,friend,spot)]]""",
    "garden": """
        {hero} had a small garden behind the [place=PLACE], [a gift from {hero.their} [RELATIVE]:3|no bigger than a [bed|table|door]:3|full of [weeds:2|stones:2|snails]:3|with [.an=COLOR] fence around it:3|where nobody else came:2|and worked there every [WEEKDAY]:3].
        [WHEN], {hero.they} planted [first=4..10] [plant.s=PLANT] and [second=3..10] [plant2.s=PLANT] there. "That makes {first+second} plants," {hero.they} [said:3|thought:2|counted:2|wrote in a notebook|told the [ANIMAL]:3|boasted|noted|announced] [HOW].
        [Every [morning|evening|day]:3|Each [WEEKDAY]:3|Whenever it was dry:2|Twice a week:2], {hero.they} [watered them:4|pulled out the weeds:2|sang to them:2|brought water in [.an=COLOR] can:4|chased away the snails:2|measured how tall they were:2].
        But [after [NUMBER] weeks:3|one night:3|one [WEEKDAY]:3|soon:2], [.an=TRAIT] [animal=ANIMAL] [came through the fence:3|dug under the fence:2|sneaked in:2|found the garden:2|climbed over the wall:2|smelled the {plant.s}:2] and ate [eaten=2..first-2] of the {plant.s}. Only {first-eaten} {plant.s} were left, [but not one of the {plant2.s} was touched:2|but the {plant2.s} were still fine:2|beside the {plant2.s}:2|and the ground was full of holes:2|and the rest was a mess:2].
        "[Why did you do that?:3|Are you still hungry?:2|Who are you?:2|Could you not have asked?:2|Do you know how long I worked?:2|What have you done?:3]" [ASK] {hero}. "[I am sorry:3|Forgive me:2|I was so hungry:3|I could not stop:2|They tasted like [MEAL]:3|I have [NUMBER] children at home:2]," [SIGH] the {animal}.
        {hero} [was [VERY][SAD]:3|thought about it for [WAIT]:3|could not be angry:3|shook {hero.their} head:2|had to laugh:2]. Then {hero.they} [HOW] [gave it some [FOODS]:4|made some [MEAL] for it:4|planted [.an=PLANT] just for the {animal}:4|showed it where [.s=PLANT] grew wild:3]. [From then on:3|After that:3|All summer long:2|Until the winter:2], the {animal} [guarded the garden:3|scared away the birds:2|helped with the weeds:2|carried the water:2|only ate snails:2|slept next to the {plant2.s}:3].""",
    "nest": """
        {hero} [helped everybody:3|loved all animals, even [.s=ANIMAL]:4|could not see anybody cry:3|knew each [ANIMAL] of the place by name:3|always carried [.s=FOOD] for the [.s=ANIMAL]:4]. [WHEN], {hero.they} [WENT] to the [VIEW] [place=PLACE] and [heard:3|found:3|saw:3|nearly stepped on:2|discovered:2] a [tiny:3|small:2|wet:2|frightened:2|shivering|trembling|hungry:2] [baby=BABY] [spot=SPOT]. It [was all alone:3|was shaking with cold:2|had lost its way:3|could not stop crying:2|had hurt its [leg:2|back|ear]:2|looked [VERY][SAD]:4].
        "[Where is your mother?:4|Where do you live?:3|Who are you?:2|Are you lost, little one?:3|Why are you alone here?:2]" [ASK] {hero}. "[My home is:3|We live:3|My mother waits for me:2|My family lives:2] near the [place2=PLACE]," [SIGH] the {baby}, "but I [followed [.an=ANIMAL]:3|chased [.an=COLOR] butterfly:3|went to look for [FOODS]:3|ran away from the thunder:2|fell asleep on a cart:2|was washed away by the rain:2|wanted to see the {place}:2]."
        {hero} [wrapped it in {hero.their} [COLOR] [scarf:2|coat|sweater|jacket]:4|put it in {hero.their} [pocket|hat|bag|basket]:4|gave it some [milk:2|water:2|bread|warm [MEAL]]:4|took it in {hero.their} arms:3|warmed it with {hero.their} hands:2], and [together:2|soon:2|at once:2|without delay] they were on their way to the {place2}.
        The road was [long:3|steep:2|muddy:2|dark:2|full of stones:2|longer than {hero} thought:2], and [on the way:2|after [WAIT]:3|at the next corner:2|behind a bend:2] they asked [.an=TRAIT] [animal=ANIMAL] for [help:2|advice|directions]. "[Go left at the [PLACE]:4|Follow the [stream:2|wall|smell of [MEAL]]:4|Cross the bridge and turn right:2|It is only [NUMBER] steps from here:3|Listen, and you will hear the mother:2|You are almost there:2]," [REPLY] the {animal}.
        At the {place2}, [the mother [came running:3|was waiting:3|was looking everywhere:2|called and called:2|cried for joy:2]:4|a [big|worried|tired] mother [came [HOW] to meet them:3|looked out:2]:3]. "[My child is back:3|There you are at last:3|My little one:3|I looked for you [SPOT] and [INDOORS]:2]!" she [SAY]. "[THANKS], {hero}!"
        The {baby} [waved:3|looked back once more:2|gave {hero} [.an=SOUVENIR]:4|was [VERY][GLAD]:3|fell asleep at once:2]. [Now and then:2|Every [WEEKDAY]:3|In [MONTH]:3|Sometimes:2], {hero} still visits the {baby} near the {place2}.""",
    "bake": """
        It was the birthday of {hero.their} [relative=RELATIVE], and {hero} wanted to bake [a big|a round|a sweet|a fluffy|an enormous|a simple|a heart-shaped|a juicy|a secret] cake with [food.s=FOOD]. {hero} [put on [.an=COLOR] apron:4|washed {hero.their} hands:3|opened the old cookbook:3|cleaned the kitchen table:2|lit the stove:2|looked into every cupboard:2] and took [mat=MATERIAL], [mat2=MATERIAL] and [mat3=MATERIAL] [from the shelf:3|out of a box:2|from [.an=COLOR] jar:3|out of the cupboard:2|from the cellar:2], but there was no more [mat4=MATERIAL].
        So {hero.they} [WENT] to [FRIEND], who lived [next door:3|across the street:3|near the [PLACE]:4|around the corner:2|upstairs:2|above the shop]. "[Could you lend me some {mat4}?:4|Do you have any {mat4}?:4|I need some {mat4}, please. Can you help me?:2]" [ASK] {hero}. "[Of course:3|Yes:2|Sure:2|With pleasure:2|Take as much as you like:2|Only if I get a piece of cake:3], [here it is:2|my dear|come in:2]," [REPLY] {friend}.
        Back home, {hero.they} [HOW] [mixed:3|stirred:3|beat:2|weighed:2] the {mat}, the {mat2}, the {mat3} and the {mat4}, and put the {food.s} on top. [Soon:2|After [WAIT]:3|Before long:2], the whole house smelled of {food.s}[, and even the [ANIMAL] next door grew hungry:3|, and {hero} [sang a song:2|danced [INDOORS]:3|did the dishes:2|could hardly wait:2]:4|:2].
        [In the afternoon:2|At four:2|When all were there:2|When the guests came:3], {hero} cut the cake into [slices=8..16] pieces. The guests ate [eaten=3..slices-2] of them, so {slices-eaten} were left[ [for {friend}:2|for the next day:2|for breakfast:2|for the [JOB]:3]|].
        "[WOW]! [This is the best cake of my life:3|It tastes of [MONTH]:3|You bake better than the [JOB]:3|How did you know that I love {food.s}:1|I love {food.s}:3|Next year I want the same again:2]!" [SAY] {hero.their} {relative}, and {hero} was [VERY][GLAD].""",
    "trip": """
        {hero} had been looking forward to this [trip:3|journey:2|day:2] [for [NUMBER] weeks:3|since [MONTH]:3|for a whole year:2]. [WHEN], {hero.they} and {hero.their} [relative=RELATIVE] [took the [train:3|bus:3|boat:2]:3|went by [car:2|bicycle:2|cart]:2|walked for [WAIT]:2|got up very early and set off:2] to see [.an=VIEW] [place=PLACE]. In {hero.their} [COLOR] [bag:3|backpack:3|basket:2] {hero} had [some [MEAL]:3|[NUMBER] [FOODS]:4], [.an=TOY] and [.an=LOOK] map.
        At the {place} they saw [animal.an=ANIMAL] [SPOT] and [animal2.an=ANIMAL] that [was asleep:3|had [NUMBER] babies:3|ate [FOODS]:4|ran in circles:2|was as big as a [calf|door|barrel]:2|looked [VERY][GLAD]:3|came [VERY]close:3].
        "[What is it doing?:2|Can we take it home?:3|May I feed it?:3|Does it bite?:2|Is it always so [big|quiet|funny|slow]?:3|How old is it?:2]" [ASK] {hero}. "[Let us watch for [WAIT]:4|I do not know:3|Better not:3|Ask the [JOB] over there:4|It is only [curious|hungry|tired]:3|Come, I will show you:2]," [REPLY] {hero.their} {relative}.
        Then it began to [rain:4|get dark:3|snow:2|thunder:2|storm], so they [ran [HOW] to a [hut:2|barn:2|big tree:2]:4|ate their [MEAL] under a roof:3|hid under [.an=COLOR] umbrella:3|drank hot tea with the [JOB]:3|played [GAME] in a [tent:2|hut]:3]. Later, {hero} found [souvenir.an=SOUVENIR] [SPOT] and [kept it:3|put it in {hero.their} pocket:3|washed it:2|held it to the light:2].
        [At home:3|Back home:3|In the evening:3|The next [WEEKDAY]:3], {hero.they} [HOW] gave the {souvenir} to [FRIEND]. "[WOW], [.an=FINE] {souvenir}! What did you see?" [ASK] {friend}. "{animal.an^} and {animal2.an}," [REPLY] {hero}, "and [the nicest {place} in the world:3|lots of [clouds|rain|people]:3|[.an=VIEW] [PLACE] on the way:3|tomorrow I will draw them for you:2|next time you must come, too:3]!"
        """,
}


def build() -> Grammar:
    """The grammar of the medium stories."""
    return compile_grammar("medium", STORY, RULES | {"PLOT": one_of(PLOTS)}, medium_lists(), NUMBERS)
