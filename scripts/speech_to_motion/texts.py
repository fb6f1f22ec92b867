"""Sentences to be spoken: from Debian's ``fortunes`` and ``wamerican``, and from templates."""

from __future__ import annotations

import random
import re
from pathlib import Path

FORTUNES = Path("/usr/share/games/fortunes")
WORDS = Path("/usr/share/dict/words")

_PEOPLE = "Bob,Mabel,my mother,Pam,Phil,Abby,Vivian,Mister Bloom,Emma,Wally,the baby,Fiona,Ben"
_THINGS = (
    "a big apple pie,the purple map,five fresh muffins,a very warm blanket,the broken umbrella,"
    "some pepper,both phones,a bumpy wooden boat,that funny movie,the whole problem,a wild beaver,"
    "twelve white envelopes,a paper bag,the main point,beautiful music,maybe a film"
)
_VERBS = (
    "bought,might prefer,put away,will probably move,wrapped up,brought back,promised,remembered,"
    "would be fine with,borrowed,found,forgot,wanted,swept past,improved,gave away"
)
_OPENERS = "Well,Maybe,By the way,Of course,Wow,Hmm,Oh,Look,So,I believe,Between us,Before that"
_CLOSERS = (
    "for a moment,before breakfast,this morning,if possible,from above,with both hands,"
    "over the bumpy bridge,every other week,about a mile away,on the phone,in my opinion"
)
_SHORT = (
    "Hi there! How may I help you?;Maybe. Maybe not.;Mm-hmm, absolutely.;Bye bye, Mom!;Why, what?;"
    "Papa, Mama, Bob.;Um, five or fifteen?;Wow, amazing!;Please, be my guest.;No problem at all.;"
    "Pop the bubble.;Hum a bit, Pam.;Baby boom.;Above, below, and beyond."
)


def fortunes() -> list[str]:
    """Plain sentences of 18 to 140 characters, in a stable order, without repeats."""
    found: dict[str, None] = {}
    for path in sorted(p for p in FORTUNES.iterdir() if p.is_file() and not p.suffix):
        for saying in path.read_text("utf-8", errors="ignore").split("\n%\n"):
            text = re.sub(r"\s+", " ", saying.split("\t\t--")[0])
            for sentence in re.split(r"(?<=[.!?]) ", text):
                sentence = sentence.strip()
                plain = re.fullmatch(r"[A-Za-z][A-Za-z ,;:'!?.\-]*[.!?]", sentence)
                if plain and 18 <= len(sentence) <= 140 and not re.search("[A-Z]{3}", sentence):
                    found[sentence] = None
    return list(found)


def sentences(count: int, seed: int) -> list[str]:
    """``count`` sentences: fortunes, word lists, and chatty ones rich in p, b, m, f, v and w.

    The same ``seed`` gives the same sentences on the same versions of the Debian packages.
    """
    rng = random.Random(seed)
    sayings = fortunes()
    words = [w for w in WORDS.read_text("utf-8").split() if re.fullmatch("[a-z]{3,11}", w)]
    made = []
    for _ in range(count):
        draw = rng.random()
        if draw < 0.55:
            made.append(rng.choice(sayings))
        elif draw < 0.70:
            made.append(", ".join(rng.sample(words, rng.randint(3, 7))) + ".")
        elif draw < 0.75:
            made.append(rng.choice(_SHORT.split(";")))
        else:
            who, verb, what = (rng.choice(s.split(",")) for s in (_PEOPLE, _VERBS, _THINGS))
            start = rng.choice(_OPENERS.split(",")) + ", " if rng.random() < 0.5 else ""
            end = " " + rng.choice(_CLOSERS.split(",")) if rng.random() < 0.6 else ""
            mark = rng.choice("...?!")
            text = f"{start}{who} {verb} {what}{end}{mark}"
            made.append(text[0].upper() + text[1:])
    return made
