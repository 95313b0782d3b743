"""English word lists, commonest first: the medium size takes the head of each list, the hard size takes all of it."""

from collections.abc import Mapping

from minilm.data.stories.words import PRONOUNS, Word, characters, nouns, numbers, plain, take

NUMBERS = numbers(
    "zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen, "
    "sixteen, seventeen, eighteen, nineteen, twenty, twenty-one, twenty-two, twenty-three, twenty-four, twenty-five, "
    "twenty-six, twenty-seven, twenty-eight, twenty-nine, thirty"
)


def relatives(text: str) -> list[Word]:
    """Relatives with their pronouns: "girl mom, boy dad"."""
    words = []
    for entry in text.split(","):
        gender, name = entry.split()
        words.append(Word(name, PRONOUNS[gender] | {"gender": gender}))
    return words


LISTS: Mapping[str, list[Word]] = {
    # Who.
    "GIRL": characters(
        "girl",
        "Lily, Mia, Anna, Sue, Emma, Zoe, Nora, Ruby, Ivy, Clara, Maya, Rose, Lucy, Ella, Grace, Tara, "
        "Alice, Hannah, Julia, Molly, Sophie, Eva, Nina, Amy, Daisy, Kate, Laura, Olivia, Penny, Sara, "
        "Violet, Wendy, Aisha, Leila, Priya, Yuki, Carmen, Freya, Ingrid, Martha, Astrid, Bianca, Celia, "
        "Dora, Fatima, Gloria, Helen, Iris, Juno, Kira, Luisa, Mina, Naomi, Paula, Rita, Stella, Tessa, "
        "Ursula, Vera, Zara",
    ),
    "BOY": characters(
        "boy",
        "Tom, Ben, Max, Sam, Leo, Tim, Jack, Finn, Theo, Hugo, Noah, Adam, Oscar, Luke, Paul, Eric, Henry, "
        "Peter, Simon, Jonas, Felix, Daniel, Arthur, George, Edgar, Ali, Omar, Ravi, Kenji, Diego, Marco, "
        "Pedro, Anton, Victor, Walter, Charlie, Toby, Martin, Rupert, Jasper, Alan, Basil, Carlos, Dominic, "
        "Emil, Frank, Gabriel, Hassan, Igor, Joel, Kevin, Lars, Milo, Nathan, Olaf, Philip, Quentin, Robin, "
        "Stefan, Umar",
    ),
    "RELATIVE": relatives(
        "girl mom, boy dad, girl grandma, girl sister, boy brother, boy grandpa, girl aunt, boy uncle, girl cousin, "
        "boy stepdad, girl godmother, boy godfather"
    ),
    "JOB": nouns(
        "baker, farmer, gardener, teacher, shopkeeper, miller, painter, shepherd, sailor, librarian, "
        "carpenter, tailor, blacksmith, beekeeper, clockmaker, cobbler, potter, weaver, innkeeper, ferryman, "
        "mason, plumber, nurse, tinker, juggler, postwoman, goldsmith, gravedigger, saddler, woodcutter",
    ),
    "ANIMAL": nouns(
        "rabbit, dog, cat, fox, bear, mouse/mice, duck, frog, turtle, horse, squirrel, hedgehog, owl, goat, "
        "pig, lamb, donkey, goose/geese, beaver, badger, mole, otter, robin, sparrow, crow, swan, toad, "
        "snail, pony, hamster, raccoon, pigeon, weasel, magpie, lizard, parrot, heron, lynx, ferret, "
        "porcupine, sheep/sheep, monkey, camel, wolf/wolves, moose/moose, falcon, seagull, woodpecker, "
        "chipmunk, marten, salamander, rooster, ostrich/ostriches, peacock, walrus, zebra",
    ),
    "BABY": nouns("bird, duckling, kitten, puppy, fawn, lamb, owlet, cub, piglet, gosling, bunny, foal, calf, chick"),
    "TRAIT": nouns(
        "little, kind, clever, shy, funny, quiet, curious, cheerful, gentle, lively, careful, patient, "
        "honest, dreamy, stubborn, polite, playful, thoughtful, silly, bold, tidy, sleepy, hopeful, loyal, "
        "adventurous, generous, talkative, inventive, modest, restless, sensible, absent-minded, serious, "
        "dainty, merry, studious, fearless, fidgety, humble, bright, daring, grumpy, nimble, wise",
    ),
    "SURNAME": plain(
        "Brown, Miller, Green, Taylor, Wood, Hill, Stone, Field, Fisher, Carter, Young, Marsh, Berry, Fox, Winter, "
        "Lake, Archer, Swift, Potter, Sparrow, Bell, Hunter, Frost, Cook, Little, Rivers, Page, Moon, Weaver, Bright"
    ),
    "PET": nouns("cat, dog, rabbit, hamster, parrot, turtle, lamb, canary, pony, guinea pig, mouse, lizard"),
    "PETNAME": plain(
        "Biscuit, Pepper, Shadow, Ginger, Bella, Snowy, Rusty, Coco, Button, Whiskers, Nutmeg, Pickles, Domino, "
        "Patches, Smokey, Cinnamon, Pumpkin, Tiger, Captain, Mittens, Sparkle, Bubbles, Hazel, Duke"
    ),
    # How they feel and move.
    "GLAD": plain(
        "happy, glad, proud, excited, pleased, cheerful, delighted, thankful, joyful, relieved, content, "
        "merry, grateful, overjoyed, thrilled, lighthearted, satisfied, cheery, lucky, ecstatic, hopeful, "
        "jolly, radiant, calm",
    ),
    "SAD": plain(
        "sad, upset, worried, unhappy, lonely, gloomy, disappointed, troubled, miserable, heartbroken, "
        "downcast, discouraged, sorrowful, dejected, hurt, tearful, glum, helpless, frustrated, restless",
    ),
    "HOW": plain(
        "quickly, slowly, carefully, quietly, happily, gently, eagerly, calmly, silently, cheerfully, "
        "nervously, bravely, patiently, cautiously, briskly, hastily, steadily, boldly, politely, "
        "gracefully, clumsily, proudly, softly, swiftly, solemnly, timidly, cleverly, merrily, stubbornly, "
        "thoughtfully, secretly, tirelessly",
    ),
    "WENT": plain(
        "went, walked, ran, hurried, skipped, rushed, strolled, wandered, marched, hiked, cycled, raced, "
        "trotted, strode, dashed, tiptoed, galloped, limped, hopped, sprinted, shuffled, drifted, stumbled, "
        "paraded",
    ),
    "GAME": plain(
        "tag, catch, hopscotch, leapfrog, marbles, chess, cards, dominoes, checkers, pirates, knights, "
        "astronauts, explorers, charades, badminton, billiards, detectives, soccer, acrobats, robbers, "
        "hangman, ping-pong",
    ),
    "FEAR": plain(
        "the dark, loud noises, deep water, big dogs, high places, thunder, spiders, tunnels, ghosts, "
        "steep stairs, strangers, lightning, snakes, caves, shadows, bats, bulls, wasps, earthquakes, "
        "mirrors, clowns, fire, moths, elevators, ladders, scarecrows",
    ),
    # Things.
    "TOY": nouns(
        "ball, kite, boat, doll, drum, hat, book, car, puzzle, scarf, lamp, bell, basket, whistle, wagon, "
        "robot, train, balloon, umbrella, bucket, flute, lantern, ring, backpack, blanket, notebook, cup, "
        "tractor, rocket, puppet, marble, mask, crown, necklace, sled, shovel, telescope, trumpet, pillow, "
        "bracelet, compass, teapot, hammock, skateboard, mirror, feather, magnet, pocketknife, candle, "
        "wallet, vase, saucer, hourglass, violin, suitcase, parasol, globe, keyring, thimble, locket, "
        "wheelbarrow, typewriter, tambourine, music box, paintbrush, kaleidoscope, teddy bear, slingshot",
    ),
    "COLOR": nouns(
        "red, blue, green, yellow, white, purple, orange, pink, golden, brown, black, silver, gray, striped, "
        "spotted, turquoise, scarlet, checkered, copper, emerald, crimson, beige, bronze, ivory, lilac, "
        "navy, olive, maroon",
    ),
    "LOOK": nouns(
        "new, small, big, old, shiny, pretty, little, lovely, beautiful, wonderful, fine, tiny, special, "
        "splendid, handmade, sturdy, elegant, curious, antique, dusty, fancy, fragile, plain, precious, "
        "rusty, unusual",
    ),
    "STUFF": plain(
        "paper, wood, string, cloth, clay, glue, paint, cardboard, wool, ribbon, wire, straw, leather, felt, "
        "bark, tin, velvet, bamboo, linen, silk, rope, wax, cork, marble, canvas, copper",
    ),
    "INSTRUMENT": nouns(
        "drum, flute, violin, piano, guitar, trumpet, harp, accordion, cello, tambourine, banjo, clarinet, "
        "xylophone, mandolin, trombone, harmonica, oboe, bassoon, ukulele, organ, saxophone, triangle, "
        "bagpipe, cymbal",
    ),
    "FINE": nouns(
        "pretty, small, big, lovely, beautiful, wonderful, special, fine, splendid, tiny, funny, elegant, huge, "
        "handsome, colorful, strong, clever, useful, fabulous, royal, dainty, superb"
    ),
    "WEAR": nouns(
        "coat, jacket, sweater, cap, shirt, raincoat, vest, hood, belt, ribbon, cardigan, bonnet, beret, poncho, "
        "tunic, cloak, kimono, sash"
    ),
    # Food and plants: used in the plural.
    "FOOD": nouns(
        "apple, cookie, berry, pear, nut, carrot, plum, cake, cherry, grape, muffin, sandwich, peach, "
        "banana, candy, pancake, tomato/tomatoes, strawberry, biscuit, chestnut, fig, pretzel, lemon, bun, "
        "waffle, dumpling, radish, apricot, raspberry, walnut, tart, olive, mango, hazelnut, blueberry, "
        "meatball, cracker, doughnut, quince, blackberry, croissant, melon, sausage, date, plantain, "
        "cupcake, gooseberry, truffle",
    ),
    "MEAL": plain(
        "soup, bread, pie, rice, noodles, porridge, stew, toast, pudding, hot chocolate, jam, omelets, "
        "potatoes, mushrooms, dumplings, beans, lentils, gingerbread, custard, chowder, curry, salad, "
        "goulash, barley, spinach, oatmeal, cheese, lasagna, risotto, broth, cornbread, sauerkraut",
    ),
    "PLANT": nouns(
        "rose, tulip, bean, sunflower, daisy, pumpkin, poppy, pea, lily, melon, cucumber, violet, onion, "
        "marigold, cabbage, lavender bush, turnip, beet, snowdrop, orchid, carrot, leek, peony, geranium, "
        "hyacinth, iris, pepper, lettuce, dahlia, squash",
    ),
    "MATERIAL": plain(
        "flour, sugar, butter, milk, honey, salt, cinnamon, chocolate, yeast, raisins, vanilla, almonds, "
        "nutmeg, oats, cocoa, cream, ginger, coconut, molasses, rosemary, sesame, maple syrup",
    ),
    "SOUVENIR": nouns(
        "shell, stone, feather, pine cone, coin, leaf/leaves, map, postcard, button, key, flower, acorn, "
        "crystal, fossil, stamp, pearl, horseshoe, ticket, snail shell, ribbon, whistle, bottle, arrowhead, "
        "pebble, beetle, candlestick, nail, chestnut",
    ),
    # Where and when.
    "PLACE": nouns(
        "park, garden, forest, beach, farm, school, market, river, hill, library, lake, meadow, village, "
        "playground, bakery, pond, bridge, field, castle, harbor, station, orchard, museum, stable, mill, "
        "zoo, barn, valley, lighthouse, fountain, windmill, greenhouse, theater, square, vineyard, "
        "waterfall, cottage, workshop, canal, campsite, quarry, forge, bathhouse, courtyard, dam, glacier, "
        "hospital, island, jetty, monastery, palace, quay, ruin, shipyard, swamp, tavern",
    ),
    "SPOT": plain(
        "in the grass, on a bench, under a bush, behind a tree, next to the path, on a big rock, "
        "near the gate, behind the wall, in a puddle, on a tree stump, under a pile of leaves, "
        "beside the fence, in a hollow log, among the flowers, between two stones, behind the well, "
        "under an old cart, on the steps, in the shade, at the foot of an oak, under a wheelbarrow, "
        "inside a barrel, on top of a haystack, beneath a willow, in the tall reeds, "
        "behind a heap of bricks, under a bridge, behind a statue, on a raft, beside the pump, in a ditch, "
        "among the ferns, under a ladder, on a milestone, behind a beehive, in a wheel rut, "
        "between the cabbages, under a tarpaulin, beside a scarecrow, in a rowboat",
    ),
    "INDOORS": plain(
        "under the bed, behind the door, in the kitchen, in the closet, under the table, behind the curtain, "
        "on the shelf, in the attic, under the stairs, in a drawer, behind the sofa, in the bathtub, "
        "in the cellar, under the rug, beside the stove, inside the clock, behind the piano, "
        "in the laundry basket, on the balcony, under a heap of coats, in the pantry, behind the bookcase, "
        "in the wardrobe, beside the fireplace, on the mantelpiece, under the cradle, inside a trunk, "
        "in the hallway, behind a mirror, in the workshop, on the chandelier, under the sink",
    ),
    "VIEW": nouns(
        "old, busy, little, quiet, sunny, big, empty, famous, lonely, noisy, pretty, crowded, peaceful, new, dark, "
        "wild, strange, windy, beautiful, muddy, deserted, pleasant, shady, narrow, ancient, haunted, distant, "
        "enormous, flooded, gloomy, hidden, majestic, overgrown, rocky, steep, splendid"
    ),
    "TOWN": plain(
        "Oakfield, Riverton, Hillbrook, Millbridge, Ashford, Greenvale, Stonewell, Maplewood, Westbury, Fernhill, "
        "Larkdale, Brightwater, Foxhollow, Elmstead, Winterley, Summerton, Honeydale, Pinecrest, Cloverley, Goldcombe"
    ),
    "WEATHER": nouns(
        "sunny, rainy, windy, cold, warm, bright, cloudy, gray, misty, quiet, foggy, mild, stormy, chilly, breezy, "
        "lovely, drizzly, damp, cool, clear, gloomy, blustery, crisp, dry, pleasant, dull, wet, fine"
    ),
    "TIME": plain("day, morning, afternoon, evening"),
    "MONTH": plain("June, May, July, April, August, September, October, March, December, January, November, February"),
    "WEEKDAY": plain("Saturday, Sunday, Monday, Friday, Wednesday, Tuesday, Thursday"),
}

MEDIUM = {
    "GIRL": 36,
    "BOY": 36,
    "RELATIVE": 10,
    "JOB": 20,
    "ANIMAL": 32,
    "TRAIT": 28,
    "GLAD": 16,
    "SAD": 12,
    "HOW": 20,
    "WENT": 14,
    "GAME": 13,
    "FEAR": 14,
    "TOY": 40,
    "COLOR": 16,
    "LOOK": 18,
    "STUFF": 16,
    "INSTRUMENT": 13,
    "FOOD": 28,
    "MEAL": 18,
    "PLANT": 18,
    "MATERIAL": 14,
    "SOUVENIR": 18,
    "PLACE": 34,
    "SPOT": 26,
    "INDOORS": 22,
    "WEATHER": 20,
    "VIEW": 22,
    "FINE": 15,
    "WEAR": 13,
}
"""How many words the medium size takes of each list; of the others all."""


def medium_lists() -> dict[str, list[Word]]:
    """The word lists of the medium size."""
    return {name: take(words, MEDIUM.get(name, len(words))) for name, words in LISTS.items()}
