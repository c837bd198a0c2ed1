"""Words for things found in homes, offices and streets that mean the same, and words that name a whole class of them.

A small thesaurus of plain English, so that "couch" finds what is called "sofa" and "fruit" finds an apple, without any
weights. It also says what a word does *not* mean: a teapot is no flowerpot, although sentence encoders find them alike.
"""

from __future__ import annotations

from functools import lru_cache

_SAME = """
mug, cup, coffee cup, coffee mug, tea cup, teacup, beaker, drinking cup, tankard
glass, tumbler, drinking glass, wine glass, goblet
book, volume, novel, hardcover, hardback, paperback, tome, textbook, notebook, diary, reading matter
open book, opened book, book lying open, spread book
plate, dish, saucer, dinner plate, platter
bowl, basin, dish
bottle, flask, wine bottle, water bottle, bottle of wine, bottle of water, carafe, decanter
jug, pitcher, ewer
vase, urn
teapot, tea pot, kettle, tea kettle
lamp, table lamp, desk lamp, light, lampshade, lantern, reading lamp, nightlight, light fixture
candle, taper, candlestick, wax candle, tealight
chair, seat, stool, armchair, dining chair, wooden chair
sofa, couch, settee, loveseat, divan
table, desk, tabletop, table top, worktop, dining table, coffee table
bed, mattress, bunk
shelf, bookshelf, bookcase, shelving, rack
cupboard, cabinet, closet, wardrobe, dresser, sideboard
alarm clock, clock, timepiece, alarm, timer
watch, wristwatch
snowman, snow man, snow figure, snowperson
block tower, tower, tower of blocks, stack of blocks, pile of blocks, blocks, building blocks, brick tower,
    wooden tower, stacked blocks, cube tower
ball pyramid, pyramid, pyramid of balls, pile of balls, stack of balls, heap of balls, balls, ball pile,
    stacked balls
ring stack, stacking rings, stack of rings, ring tower, rings, stacking toy, ring toy, tower of rings,
    pile of rings, stacked rings
toy car, car, automobile, racing car, model car, little car, auto, race car, sedan, taxi
truck, lorry
bicycle, bike, cycle
motorcycle, motorbike, scooter
mushroom, toadstool, fungus, fly agaric, shroom
dumbbell, barbell, weight, hand weight, free weight, gym weight, kettlebell
flowerpot, flower pot, plant pot, potted plant, pot plant, planter, cactus, potted cactus, plant, houseplant,
    succulent, pot
house, toy house, home, cottage, building, little house, cabin, hut, dollhouse, doll house, birdhouse
rubber duck, duck, duckling, ducky, duckie, rubber ducky, toy duck, bath duck, bath toy, bird, drake
robot, android, toy robot, machine, automaton, droid, mech, tin robot
gift box, gift, present, parcel, wrapped box, package, gift package, wrapped present, wrapped gift, box, giftbox,
    present box, birthday present
apple
pear
orange
banana
lemon
rocket, spaceship, rocket ship, space ship, spacecraft, missile, space rocket, shuttle, toy rocket, spaceshuttle
pencil cup, pencil holder, pen holder, pen cup, pencil pot, pen pot, pencil stand, pencils, pens, cup of pencils,
    cup with pencils, pencil box, penholder, jar of pencils, pencil jar, stationery holder, pencil case
pencil, pen, crayon, marker
bag, backpack, rucksack, handbag, purse, sack
suitcase, luggage, trunk
hat, cap, helmet, beanie
shoe, boot, sneaker, trainer, sandal, slipper
shirt, t-shirt, blouse, sweater, jumper, pullover
jacket, coat
trousers, pants, jeans
scissors, shears
knife, blade
fork
spoon, ladle, teaspoon
chopsticks
pan, frying pan, skillet, saucepan
pot, cooking pot, casserole
bin, trash can, garbage can, wastebasket, dustbin, trash bin, rubbish bin
phone, telephone, mobile, smartphone, cell phone, mobile phone, cellphone
computer, laptop, notebook, pc
keyboard
mouse, computer mouse
screen, monitor, display, television, tv, television set
remote, remote control, controller, gamepad
camera, webcam
speaker, loudspeaker
headphones, earphones, headset
pillow, cushion
blanket, rug, throw, duvet
carpet, rug, mat
curtain, drape, blind
towel, cloth, napkin
picture, painting, poster, photograph, photo frame, picture frame
mirror, looking glass
door, gate
window, pane
wall
floor, ground
stairs, staircase, steps
person, man, woman, human, somebody, child, boy, girl, figure
dog, puppy, hound
cat, kitten
bear, teddy bear, teddy, stuffed bear, stuffed animal
horse, pony
sheep, lamb
cow, bull
rabbit, bunny
fish
statue, sculpture, figurine, bust, statuette
ball, sphere, orb
football, soccer ball
tree, bush, shrub
flower, blossom, rose, tulip, daisy
leaf, foliage
bread, loaf, toast, bun
cake, pie, tart, muffin
cookie, biscuit
cheese
egg, eggs
sandwich, burger, hamburger
umbrella, parasol
guitar, ukulele
piano
toothbrush
soap
sink, washbasin, washstand
toilet, lavatory, loo
bathtub, bath, tub
fridge, refrigerator
oven, stove, cooker
microwave, microwave oven
toaster
fan, ventilator
key, keys
coin, money
wallet
box, carton, cardboard box, crate, case, container
basket, hamper
bucket, pail
hammer, mallet
ladder
rope, string, cord
toy, plaything
traffic light, stoplight
sign, signpost
bench
lorry, van
bus, coach
train, locomotive
boat, ship
plane, airplane, aeroplane, aircraft
"""

_LINES = tuple(filter(None, _SAME.replace(",\n", ",").strip().splitlines()))
"""One per sense; a line that ends in a comma goes on."""

_CLASSES = """
fruit: apple pear orange banana lemon
food: apple pear orange banana lemon mushroom bread cake cookie cheese egg sandwich
vegetable: mushroom
plant: flowerpot tree flower leaf mushroom
animal: rubber duck dog cat bear horse sheep cow rabbit fish
bird: rubber duck
creature: rubber duck dog cat bear horse sheep cow rabbit fish snowman robot
toy: toy car rubber duck robot rocket block tower ring stack ball pyramid snowman house bear ball
plaything: toy car rubber duck robot rocket block tower ring stack ball pyramid bear ball
figure: snowman robot statue person
figurine: snowman robot rubber duck statue
statue: snowman
vehicle: toy car rocket truck bicycle motorcycle bus train boat plane
spacecraft: rocket
crockery: mug plate bowl teapot
tableware: mug plate bowl teapot glass
dishware: mug plate bowl teapot
dishes: plate bowl
dish: plate bowl
vessel: mug bowl bottle teapot vase jug glass bucket
container: mug bowl bottle teapot vase jug glass gift box pencil cup flowerpot box basket bucket bin bag
drinkware: mug glass bottle
receptacle: mug bowl pencil cup flowerpot box
furniture: chair table sofa bed shelf cupboard bench
seating: chair sofa bench
light: lamp candle
light source: lamp candle
lighting: lamp candle
reading material: book open book
literature: book open book
book: open book
timepiece: alarm clock watch
stack: block tower ring stack ball pyramid
tower: block tower ring stack
pile: block tower ring stack ball pyramid
building: house
sports equipment: dumbbell ball football
exercise equipment: dumbbell
gym equipment: dumbbell
fitness equipment: dumbbell
stationery: pencil cup pencil book
writing utensil: pencil
utensil: spoon fork knife
cutlery: spoon fork knife
tool: hammer scissors dumbbell knife
machine: robot toy car alarm clock computer
device: alarm clock robot phone computer camera lamp
appliance: lamp toaster microwave fridge oven fan
gadget: alarm clock robot phone camera
clothing: shirt jacket trousers hat shoe
decoration: candle snowman vase statue picture flowerpot
ornament: candle snowman vase statue
snack: apple cookie cake
"""


@lru_cache(maxsize=1)
def _senses() -> dict[str, frozenset[int]]:
    """Word or phrase to the numbers of the senses that it may have."""
    out: dict[str, set[int]] = {}
    for number, line in enumerate(_LINES):
        for word in line.split(","):
            out.setdefault(word.strip(), set()).add(number)
    return {word: frozenset(senses) for word, senses in out.items()}


@lru_cache(maxsize=1)
def _members() -> dict[str, frozenset[str]]:
    """Name of a class to the first words of the senses in it."""
    firsts = [line.split(",")[0].strip() for line in _LINES]
    known = sorted(firsts, key=len, reverse=True)
    out: dict[str, frozenset[str]] = {}
    for line in filter(None, _CLASSES.strip().splitlines()):
        name, _, rest = line.partition(":")
        found = set()
        rest = f" {rest.strip()} "
        for first in known:
            if f" {first} " in rest:
                found.add(first)
                rest = rest.replace(f" {first} ", "  ")
        out[name] = out.get(name, frozenset()) | found
    return out


def knows(phrase: str) -> bool:
    """Whether a word or phrase, in the singular, is in the thesaurus."""
    return phrase in _senses() or phrase in _members()


def same_thing(a: str, b: str) -> bool:
    """Whether two words or phrases may name the same kind of thing: "couch" and "sofa"."""
    return a == b or bool(_senses().get(a, frozenset()) & _senses().get(b, frozenset()))


def is_kind_of(thing: str, name: str) -> bool:
    """Whether a thing belongs to the class that a word names: an apple is a fruit."""
    return any(same_thing(thing, member) for member in _members().get(name, ()))
