"""Phone classes, the lip shape of each, and the way from every synthesiser's phone names to them.

A class gathers the phones that look alike on the lips. The apertures are not the textbook's: they
are where the lips of talking people stand on average while the phone sounds, which for k, s, sh
and ee is more open, and for l, o and schwa more closed, than teaching tables say.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class LipShape:
    """Target of one phone class.

    ``aperture`` and ``jaw`` run from 0 (shut) to 1 (an open "ah"), ``width`` from -1 (rounded) to
    +1 (spread). ``dominance`` is how strongly the phone insists on its shape against its
    neighbours'.
    """

    aperture: float
    width: float
    jaw: float
    dominance: float


SHAPES: dict[str, LipShape] = {
    "silence": LipShape(0.22, 0.0, 0.0, 0.7),
    "aa": LipShape(1.0, 0.0, 1.0, 1.0),
    "ae": LipShape(0.85, 0.35, 0.9, 1.0),
    "ah": LipShape(0.60, 0.05, 0.6, 0.9),
    "ao": LipShape(0.65, -0.5, 0.8, 1.0),
    "ax": LipShape(0.36, 0.0, 0.4, 0.5),
    "eh": LipShape(0.65, 0.35, 0.6, 0.9),
    "e": LipShape(0.72, 0.5, 0.45, 0.9),
    "er": LipShape(0.36, -0.3, 0.4, 0.8),
    "ih": LipShape(0.52, 0.35, 0.35, 0.7),
    "iy": LipShape(0.50, 0.7, 0.25, 0.9),
    "o": LipShape(0.40, -0.7, 0.55, 1.0),
    "uh": LipShape(0.33, -0.45, 0.35, 0.9),
    "uw": LipShape(0.20, -0.9, 0.2, 1.1),
    "high front rounded": LipShape(0.20, -0.8, 0.2, 1.0),
    "mid front rounded": LipShape(0.40, -0.6, 0.45, 1.0),
    "p b m": LipShape(0.0, -0.05, 0.15, 2.0),
    "bilabial fricative": LipShape(0.0, -0.05, 0.15, 2.0),
    "f v": LipShape(0.12, 0.05, 0.15, 1.6),
    "w": LipShape(0.10, -0.95, 0.2, 1.5),
    "r": LipShape(0.25, -0.4, 0.3, 0.9),
    "sh": LipShape(0.50, -0.5, 0.2, 1.1),
    "s z": LipShape(0.42, 0.3, 0.1, 0.7),
    "t d n": LipShape(0.36, 0.15, 0.2, 0.4),
    "l": LipShape(0.25, 0.1, 0.35, 0.4),
    "k g": LipShape(0.52, 0.0, 0.35, 0.25),
    "th": LipShape(0.33, 0.1, 0.25, 0.6),
    "h": LipShape(0.55, 0.0, 0.4, 0.1),
    "y": LipShape(0.42, 0.5, 0.25, 0.7),
}
"""Lip shape of each phone class; the order is that of the network's phone output."""

CLASSES: tuple[str, ...] = tuple(SHAPES)
INDEX: dict[str, int] = {name: i for i, name in enumerate(CLASSES)}

Parts = tuple[tuple[str, float], ...]
"""Phone classes with the share of the phone's time each takes, in order."""


def _parts(text: str) -> Parts:
    """``"aa+ih"`` is a diphthong (60 % and 40 % of its time), ``"l"`` a single class."""
    first, _, second = text.partition("+")
    return ((first, 0.6), (second, 0.4)) if second else ((first, 1.0),)


_ARPABET = {
    **{p: p for p in ("aa", "ae", "ah", "ao", "ax", "eh", "er", "ih", "iy", "uh", "uw")},
    **dict.fromkeys(("t", "d", "n", "dx", "nx", "en"), "t d n"),
    **dict.fromkeys(("k", "g", "ng"), "k g"),
    **dict.fromkeys(("p", "b", "m", "em"), "p b m"),
    **dict.fromkeys(("sh", "zh", "ch", "jh"), "sh"),
    **dict.fromkeys(("pau", "sil", "h#", "brth", "#"), "silence"),
    "axr": "er", "ay": "aa+ih", "aw": "ae+uh", "ey": "e+iy", "ow": "o+uw", "oy": "o+ih",
    "f": "f v", "v": "f v", "w": "w", "wh": "w", "r": "r", "s": "s z", "z": "s z",
    "l": "l", "el": "l", "th": "th", "dh": "th", "hh": "h", "hv": "h", "y": "y",
}  # fmt: skip

_ITALIAN = {
    "a": "aa", "e": "e", "E": "eh", "i": "iy", "o": "o", "O": "ao", "u": "uw",
    "p": "p b m", "b": "p b m", "m": "p b m", "f": "f v", "v": "f v", "nf": "f v",
    "t": "t d n", "d": "t d n", "n": "t d n", "J": "t d n", "ng": "k g", "k": "k g", "g": "k g",
    "s": "s z", "z": "s z", "ts": "s z", "dz": "s z", "S": "sh", "Z": "sh", "tS": "sh", "dZ": "sh",
    "l": "l", "L": "l", "r": "r", "j": "y", "w": "w", "#": "silence",
}  # fmt: skip

_IPA = {
    "aa": "aɑɒä",
    "ae": "æ",
    "ah": "ʌɐ",
    "ao": "ɔ",
    "ax": "əɘᵊ",
    "eh": "ɛ",
    "e": "e",
    "er": "ɚɜɝ",
    "ih": "ɪᵻ",
    "iy": "iɨ",
    "o": "oɤ",
    "uh": "ʊ",
    "uw": "uʉɯ",
    "high front rounded": "yʏɥ",
    "mid front rounded": "øœɵɞ",
    "p b m": "pbmɓ",
    "bilabial fricative": "ɸβ",
    "f v": "fvʋɱ",
    "w": "wʍ",
    "r": "rɹɻɾʀʁɽ",
    "sh": "ʃʒʂʐɕʑ",
    "s z": "szc",
    "t d n": "tdnɲʈɖɳɗ",
    "l": "lɫʎɭɬɮ",
    "k g": "kɡgŋxɣqχɟɢɴ",
    "th": "θð",
    "h": "hɦħʕʔ",
    "y": "jʝ",
}
_CLASS_OF_IPA = {symbol: name for name, symbols in _IPA.items() for symbol in symbols}
_VOWELS = set("aɑɒæʌɐɔəɘɛeɚɜɝɪiɨoɤʊuʉɯyʏøœɵɞᵻ")


def from_arpabet(phone: str) -> Parts:
    """Classes of a phone of the US radio set (flite, English festival voices).

    Raises:
        KeyError: unknown phone.
    """
    return _parts(_ARPABET[phone.lower().rstrip("012")])


def from_italian(phone: str) -> Parts:
    """Classes of a phone of festival's Italian voices; a trailing 1 marks stress.

    Raises:
        KeyError: unknown phone.
    """
    return _parts(_ITALIAN[phone.rstrip("1")])


def from_ipa(text: str) -> Parts:
    """Classes of one IPA phone as espeak-ng names it; an empty text is a pause.

    Stress, length and diacritics are dropped, an affricate keeps its fricative, a diphthong is
    split 60 to 40. A language switch such as ``(en)`` and unknown symbols give no classes: the
    caller merges their time into the next phone.
    """
    if not text:
        return (("silence", 1.0),)
    if text.startswith("("):
        return ()
    plain = unicodedata.normalize("NFD", text)
    symbols = [s for s in plain if s in _CLASS_OF_IPA]
    if len(symbols) >= 2 and symbols[0] in "td" and _CLASS_OF_IPA[symbols[1]] in ("sh", "s z"):
        symbols = symbols[1:]
    classes = [_CLASS_OF_IPA[s] for s in symbols]
    if len(classes) < 2:
        return tuple((name, 1.0) for name in classes)
    if symbols[0] in _VOWELS and symbols[1] in _VOWELS:
        return ((classes[0], 0.6), (classes[1], 0.4))
    return tuple((name, 1.0 / len(classes)) for name in classes)
