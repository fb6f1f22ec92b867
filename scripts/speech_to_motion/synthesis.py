"""Speech with phone timings, from the synthesisers of Debian: espeak-ng, flite and festival."""

from __future__ import annotations

import ctypes
import random
import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from speech_to_motion import phones

RATE = 16_000

PACKAGES = (
    "espeak-ng libespeak-ng1 flite festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k "
    "festvox-italp16k festvox-itapc16k fortunes wamerican"
)
"""Debian packages the training needs."""

_FLITE_VOICES = ("slt", "rms", "awb", "kal16")
_FESTIVAL_VOICES = {
    "cmu_us_slt_arctic_hts": "us",
    "kal_diphone": "english",
    "ked_diphone": "english",
    "lp_diphone": "italian",
    "pc_diphone": "italian",
}
_ESPEAK_ENGLISH = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan",
                   "en-gb-x-gbcwmd", "en-029")  # fmt: skip
_ESPEAK_FOREIGN = ("de", "fr-fr", "es", "es-419", "it", "nl", "pt", "pt-br", "sv", "pl", "fi",
                   "da", "ro", "cs", "tr", "hu")  # fmt: skip
_ESPEAK_TIMBRES = ("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    ``pcm``: float32, (samples,), 16 kHz, full scale 1. ``phones``: (phone class, end in seconds),
    in order, the first starting at 0.
    """

    voice: str
    pcm: np.ndarray
    phones: tuple[tuple[int, float], ...]


def missing() -> list[str]:
    """What of the synthesisers, voices and word lists is not installed; empty when all is there."""
    absent = [name for name in ("flite", "festival") if shutil.which(name) is None]
    if find_library("espeak-ng") is None:
        absent.append("libespeak-ng")
    for voice, folder in _FESTIVAL_VOICES.items():
        if not Path("/usr/share/festival/voices", folder, voice).is_dir():
            absent.append(f"festival voice {voice}")
    for path in ("/usr/share/games/fortunes", "/usr/share/dict/words"):
        if not Path(path).exists():
            absent.append(path)
    return absent


def resample(pcm: np.ndarray, rate: int) -> np.ndarray:
    """``pcm`` from ``rate`` Hz to 16 kHz by cutting its spectrum; float32, shape (samples,)."""
    if rate == RATE:
        return pcm.astype(np.float32)
    length = round(len(pcm) * RATE / rate)
    spectrum = np.fft.rfft(np.pad(pcm, (0, rate // 10)))
    padded = round((len(pcm) + rate // 10) * RATE / rate)
    return (np.fft.irfft(spectrum, padded)[:length] * (RATE / rate)).astype(np.float32)


def _read_wave(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return resample(pcm / 32768.0, file.getframerate())


def _timed(
    segments: list[tuple[str, float]], convert: Callable[[str], phones.Parts]
) -> tuple[tuple[int, float], ...]:
    """Phone names with their ends become classes with their ends; diphthongs become two."""
    timed: list[tuple[int, float]] = []
    start = 0.0
    for name, end in segments:
        parts = convert(name)
        if not parts or end <= start:
            continue
        at = start
        for part, share in parts:
            at += share * (end - start)
            timed.append((phones.INDEX[part], at))
        timed[-1] = (timed[-1][0], end)
        start = end
    return tuple(timed)


def flite(text: str, rng: random.Random) -> Utterance | None:
    """``text`` by one of flite's voices, at a random speed (and pitch, where the voice allows)."""
    voice = rng.choice(_FLITE_VOICES)
    settings = ["--setf", f"duration_stretch={rng.uniform(0.8, 1.25):.2f}"]
    if voice == "kal16":
        settings += ["--setf", f"int_f0_target_mean={rng.uniform(80, 170):.0f}"]
    with TemporaryDirectory() as folder:
        out = Path(folder, "a.wav")
        command = ["flite", "-voice", voice, "-psdur", *settings, "-t", text, "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        pairs = [item.rsplit(":", 1) for item in done.stdout.split()]
        if done.returncode or not pairs:
            return None
        timed = _timed([(name, float(end)) for name, end in pairs], phones.from_arpabet)
        return Utterance(f"flite {voice}", _read_wave(out), timed)


def festival(texts: list[str], voice: str, rng: random.Random) -> Iterator[Utterance]:
    """``texts`` by one festival voice; sentences it stumbles over are left out."""
    italian = _FESTIVAL_VOICES[voice] == "italian"
    with TemporaryDirectory() as folder:
        script = [f"(voice_{voice})"]
        for i, text in enumerate(texts):
            said = re.sub(r'["\\]', "", text)
            script.append(
                f"(Parameter.set 'Duration_Stretch {rng.uniform(0.85, 1.25):.2f})"
                f'(unwind-protect (begin (set! u (Utterance Text "{said}")) (utt.synth u)'
                f' (utt.save.segs u "{i}.seg") (utt.save.wave u "{i}.wav")) nil)'
            )
        Path(folder, "say.scm").write_text("\n".join(script), "utf-8")
        subprocess.run(["festival", "-b", "say.scm"], cwd=folder, capture_output=True, timeout=1200)
        for i in range(len(texts)):
            segments, sound = Path(folder, f"{i}.seg"), Path(folder, f"{i}.wav")
            if not (segments.exists() and sound.exists()):
                continue
            rows = segments.read_text("utf-8").partition("#\n")[2].split("\n")
            named = [(row.split()[2], float(row.split()[0])) for row in rows if row.strip()]
            convert = phones.from_italian if italian else phones.from_arpabet
            yield Utterance(f"festival {voice}", _read_wave(sound), _timed(named, convert))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


class Espeak:
    """espeak-ng through its C library, the only way to its phone timings. One per process."""

    def __init__(self) -> None:
        synchronous, phoneme_events_in_ipa = 2, 3
        self._library = ctypes.CDLL(find_library("espeak-ng"))
        self._rate = self._library.espeak_Initialize(synchronous, 0, None, phoneme_events_in_ipa)
        if self._rate <= 0:
            raise RuntimeError("espeak-ng did not start; is its data package installed?")
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        self._callback = kind(self._take)  # kept: the library holds only the bare pointer
        self._library.espeak_SetSynthCallback(self._callback)
        self._sound: list[np.ndarray] = []
        self._starts: list[tuple[str, int]] = []

    def _take(self, samples, count, events) -> int:
        if samples and count > 0:
            self._sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        end_of_list, phoneme = 0, 7
        i = 0
        while events[i].type != end_of_list:
            if events[i].type == phoneme:
                name = events[i].string.decode("utf-8", errors="ignore")
                self._starts.append((name, events[i].sample))
            i += 1
        return 0

    def say(self, text: str, rng: random.Random) -> Utterance | None:
        """``text`` by a random voice, accent, speed and pitch. A foreign voice reads English in
        its own way, which is as good: the phones named are the phones that sound."""
        language = rng.choice(_ESPEAK_ENGLISH if rng.random() < 0.55 else _ESPEAK_FOREIGN)
        timbre = rng.choice(_ESPEAK_TIMBRES)
        voice = f"{language}+{timbre}" if timbre else language
        if self._library.espeak_SetVoiceByName(voice.encode()):
            return None
        rate, pitch, pitch_range = 1, 3, 4
        self._library.espeak_SetParameter(rate, rng.randint(125, 215), 0)
        self._library.espeak_SetParameter(pitch, rng.randint(20, 80), 0)
        self._library.espeak_SetParameter(pitch_range, rng.randint(30, 90), 0)
        self._sound, self._starts = [], []
        said, characters_are_utf8 = text.encode(), 1
        self._library.espeak_Synth(said, len(said) + 1, 0, 0, 0, characters_are_utf8, None, None)
        if not self._sound or len(self._starts) < 3:
            return None
        sound = np.concatenate(self._sound) / 32768.0
        ends = [start for _, start in self._starts[1:]] + [len(sound)]
        named = [
            (name, end / self._rate) for (name, _), end in zip(self._starts, ends, strict=True)
        ]
        if self._starts[0][1] > 0:
            named.insert(0, ("", self._starts[0][1] / self._rate))
        timed = _timed(named, phones.from_ipa)
        return Utterance(f"espeak-ng {voice}", resample(sound, self._rate), timed)


def speak(texts: list[str], seed: int) -> Iterator[Utterance]:
    """Every sentence once: 45 % by espeak-ng, 33 % by flite, 22 % by festival.

    Sentences a synthesiser refuses are left out.
    """
    rng = random.Random(seed)
    by_espeak, by_flite = round(len(texts) * 0.45), round(len(texts) * 0.78)
    espeak = Espeak()
    for text in texts[:by_espeak]:
        if (spoken := espeak.say(text, rng)) is not None:
            yield spoken
    for text in texts[by_espeak:by_flite]:
        if (spoken := flite(text, rng)) is not None:
            yield spoken
    rest, batch = texts[by_flite:], 12
    voices = list(_FESTIVAL_VOICES)
    for i in range(0, len(rest), batch):
        yield from festival(rest[i : i + batch], voices[i // batch % len(voices)], rng)
