"""The words that the grammar knows: relations, orders, sizes, colours, numbers; and how a text becomes words.

Relations are phrases of several words; the longest one that fits is taken.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ag2_ns.perception.english import words_of


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _phrases(lines: str) -> dict[tuple[str, ...], str]:
    """Phrase to name, from lines "name: phrase | phrase"."""
    out = {}
    for line in lines.strip().splitlines():
        name, _, phrases = line.partition(":")
        for phrase in phrases.split("|"):
            out[tuple(phrase.split())] = name.strip()
    return out


RELATIONS = _phrases("""
on: on | on top of | on the top of | atop | atop of | upon | onto | up on | over the top of
under: under | underneath | beneath | below | underneath of | right below | at the foot of
above: above | over | higher than | high above
in: in | inside | inside of | within | into | contained in | in the inside of
leaning: against | up against | leaning on | leaning against | leaning up against | leaned against | leant against
leaning: leans on | leans against | lean against | lean on | propped against | propped up against | propped up on
leaning: propped on | tilted against | tilted on | resting against | rests against | slanted against | supported by
leaning: reclining against | tipped against | inclined against | leaning onto | leans up against | set against
touching: touching | touches | in contact with | up close against
near: next to | beside | by | near | near to | close to | nearby | alongside | adjacent to | around | not far from
near: at the side of | in the vicinity of | by the side of | right by | right next to | neighbouring
near: neighboring | close by
near: neighbors | neighbours | side by side with | bordering | with
far: far from | far away from | away from | distant from | remote from | not near | not close to
left: left of | to the left of | on the left of | at the left of | left from | to the left side of | on the left side of
left: on the left hand side of | to the left hand side of | to left of | on left of | left side of
right: right of | to the right of | on the right of | at the right of | right from | to the right side of
right: on the right side of | on the right hand side of | to the right hand side of | to right of | right side of
front: in front of | in the front of | before | ahead of | closer to me than | closer to the camera than
front: nearer to me than | nearer to the camera than | nearer than | closer than | at the front of
behind: behind | in back of | beyond | to the rear of | at the rear of | in the back of | at the back of | past
behind: farther than | further than | farther away than | further away than | further back than | farther back than
between: between | in between | in the middle of | midway between | halfway between | amid | among | amidst
between: sandwiched between
""")
"""Phrases of relations to a reference."""

COMPARISONS = {
    "bigger": ("size", True), "larger": ("size", True), "smaller": ("size", False), "tinier": ("size", False),
    "taller": ("height", True), "higher": ("height", True), "shorter": ("height", False), "lower": ("height", False),
    "longer": ("length", True), "wider": ("width", True), "broader": ("width", True), "narrower": ("width", False),
    "thinner": ("thickness", False), "thicker": ("thickness", True), "fatter": ("width", True),
    "flatter": ("height", False), "nearer": ("near", True), "closer": ("near", True), "farther": ("near", False),
    "further": ("near", False),
}  # fmt: skip
"""Comparative adjectives: the measure, and whether more of it is meant."""

SUPERLATIVES = {
    "biggest": ("size", True), "largest": ("size", True), "hugest": ("size", True), "smallest": ("size", False),
    "tiniest": ("size", False), "littlest": ("size", False), "tallest": ("height", True), "highest": ("top", True),
    "shortest": ("height", False), "lowest": ("top", False), "longest": ("length", True), "widest": ("width", True),
    "broadest": ("width", True), "narrowest": ("width", False), "thinnest": ("thickness", False),
    "thickest": ("thickness", True), "flattest": ("height", False), "topmost": ("top", True),
    "uppermost": ("top", True), "bottommost": ("top", False), "leftmost": ("left", True), "rightmost": ("right", True),
    "frontmost": ("front", True), "foremost": ("front", True), "backmost": ("behind", True),
    "rearmost": ("behind", True), "hindmost": ("behind", True), "nearest": ("near", True), "closest": ("near", True),
    "farthest": ("near", False), "furthest": ("near", False), "remotest": ("near", False),
    "middle": ("central", True), "central": ("central", True), "centermost": ("central", True),
    "middlemost": ("central", True),
}  # fmt: skip
"""Superlatives, likewise. "near" becomes the distance to a reference, or to the viewer."""

SIDES = {
    "left": "left", "right": "right", "front": "front", "foreground": "front", "back": "behind", "rear": "behind",
    "background": "behind", "middle": "central", "center": "central", "centre": "central", "top": "top",
    "bottom": "bottom",
}  # fmt: skip
"""Sides of the picture: "on the left", "from the back"."""

SIZES = {
    "big": ("size", True), "large": ("size", True), "huge": ("size", True), "giant": ("size", True),
    "enormous": ("size", True), "small": ("size", False), "tiny": ("size", False), "little": ("size", False),
    "mini": ("size", False), "tall": ("height", True), "high": ("height", True), "short": ("height", False),
    "low": ("height", False), "long": ("length", True), "wide": ("width", True), "broad": ("width", True),
    "narrow": ("width", False), "thin": ("thickness", False), "thick": ("thickness", True), "flat": ("height", False),
}  # fmt: skip
"""Adjectives of size."""

NUMBERS = {
    w: n for n, w in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1)
}
ORDINALS = {
    w: n
    for n, w in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
}
ORDINALS |= {"1st": 1, "2nd": 2, "3rd": 3} | {f"{n}th": n for n in range(4, 20)} | {"last": -1, "final": -1}

ARTICLES = _set("a an the this that these those my your his her its our their some any another")
EVERY = _set("all every each everything")
ANYTHING = _set(
    "thing things object objects item items something anything everything stuff piece pieces element elements what "
    "whatever article entity one ones which whichever whatsit gadget"
)
"""Nouns that say nothing about the kind."""

IT = _set("it them itself themselves there top")
ME = _set("me us you viewer camera observer myself here photographer lens cameraman")
NEGATIONS = _set("not never non no neither nor without except excluding but")
COPULAS = _set("is are was were be being been looks appears seems stays remains")
AUXILIARIES = _set("do does did can could would will may might must should")
HAVE = _set("has have having had carries carry carrying holds hold holding contains contain containing bears bear "
            "bearing supports support supporting including includes featuring")  # fmt: skip
RELATIVE = _set("that which who whom whose where")
POSTURES = _set(
    "sitting sits sit standing stands stand lying lies lie laying lays resting rests rest placed located positioned "
    "situated put stacked set hanging hangs perched found kept parked seated balanced balancing laid left stood sat "
    "staying floating residing displayed visible living living placed dropped leaning leans lean propped leaned leant "
    "seen viewed shown tilted tipped facing happens directly immediately right just straight exactly up down over out "
    "closely also "
    "currently both still very quite really rather slightly bit somewhere"
)
"""Words before a relation that say how, not where."""
LEAN = _set("leaning leans lean propped leaned leant tilted tipped slanted reclining inclined")
FILLERS = _set("please kindly now then just the same of colour color coloured colored shade hue kind sort type side "
               "way please well actually maybe probably that there object only single sole")  # fmt: skip
PLACES = _set("picture image photo photograph scene view frame shot screen room table desk group row line pile set "
              "bunch middle edge side corner end hand part area section region half")  # fmt: skip
"""What a side may be of without being a reference: "on the left side of the picture"."""

OPENINGS = [
    tuple(line.split())
    for line in """
    please | can you | could you | would you | will you | i am looking for | i am searching for | i look for | i want
    i would like | i need | i mean | look for | search for | show me | show | find me | find | select | pick up
    pick out | pick | choose | give me | get me | get | bring me | bring | hand me | pass me | point at | point to
    point out | highlight | mark | segment | locate | identify | where is | where are | where can i find | what is
    what are
    who is | tell me | there is | there are | it is | this is | these are | let me see | take | grab | fetch | see | me
    which is | which are | and | so | ok | hey | hi | the answer is | detect | outline | click on
    click | remove | delete
    """.replace("\n", "|").split("|")
    if line.strip()
]  # fmt: skip
"""How people begin; longest first when matched."""

CONTRACTIONS = {
    "isn't": "is not", "aren't": "are not", "wasn't": "was not", "doesn't": "does not", "don't": "do not",
    "hasn't": "has not", "haven't": "have not", "can't": "can not", "that's": "that is", "what's": "what is",
    "which's": "which is", "it's": "it is", "there's": "there is", "where's": "where is", "who's": "who is",
    "i'm": "i am", "i'd": "i would", "they're": "they are", "everything's": "everything is", "thing's": "thing is",
    "one's": "one is", "ain't": "is not", "that're": "that are", "i've": "i have", "let's": "let us",
}  # fmt: skip

_MERGED = [
    (r"\b(left|right|front|back|rear|top|bottom|upper|center|middle) most\b", r"\1most"),
    (r"\buppermost\b", "topmost"),
    (r"\b(coloured|colored)\b", ""),
    (r"\bin colou?r\b", ""),
    (r"\bnext to last\b", "last"),
    (r"\bmost distant\b", "furthest"),
    (r"\bmost remote\b", "furthest"),
    (r"\bleast tall\b", "shortest"),
    (r"\bnon (\w+)", r"not \1"),
    (r"\b(a )?couple of\b", "two"),
    (r"\b(a )?pair of\b", "two"),
    (r"\bnone of\b", "no"),
    (r"\bnext door to\b", "next to"),
    (r"\b(right|left) hand\b", r"\1"),
    (r"\bat the (very )?(back|rear)\b", "in the back"),
    (r"\bat the (very )?front\b", "in the front"),
    (r"\b(on|to|at|in) the (far|very|extreme|utmost) (left|right)\b", r"\3most"),
    (r"\bwith(out)? anything\b", "with nothing"),
    (r"\bthat (has|have) no\b", "with no"),
    (r"\bwhich (has|have) no\b", "with no"),
    (r"\b(do|does) not have anything\b", "has nothing"),
    (r"\b(do|does) not have (a|an|any)\b", "has no"),
    (r"\b(has|have) not got\b", "has no"),
    (r"\b(has|have) got\b", "has"),
    (r"\bother than\b", "except"),
    (r"\bapart from\b", "except"),
    (r"\baside from\b", "except"),
    (r"\brather than\b", "except"),
    (r"\bbut not\b", "and not"),
    (r"\bwhose colou?r is\b", "that is"),
    (r"\b(upside|face) down\b", ""),
]

TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|,")


def tokens_of(text: str) -> list[str]:
    """The words of a text in lower case, contractions taken apart, commas kept, one spelling for what has several."""
    text = " ".join(text.lower().replace("\u2019", "'").replace("`", "'").split())
    text = re.sub(r"[;:()]", ",", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    text = re.sub(r"\b[a-z]+'[a-z]+\b", lambda m: CONTRACTIONS.get(m[0], m[0]), text)
    text = re.sub(r"\b([a-z]+)'s\b", r"\1 's", text)
    for pattern, new in _MERGED:
        text = re.sub(pattern, new, text)
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)?|'s|,", text)
    return [w for w in found if w == "," or words_of(w)]


@lru_cache(maxsize=4096)
def is_colour(word: str) -> bool:
    """Whether one word names a colour."""
    from ag2_ns.perception.palette import is_colour_name

    return is_colour_name(word)


COLOUR_SHADES = _set("light dark pale bright deep")
