"""A row: what is said of the mouth every 20 ms."""

from __future__ import annotations

from models.engine import SPEECH_SAMPLES_PER_FRAME
from models.warp.speech.log_mel import HOP

ROW_SAMPLES = 2 * HOP
"""Speech samples (16 kHz) of one row: 320, 20 ms. Row *t* speaks for its centre, 20 t + 10 ms."""
ROWS_PER_FRAME = SPEECH_SAMPLES_PER_FRAME // ROW_SAMPLES
LOOKAHEAD = 5
"""Rows heard after a row before the last word on it: row *t* needs the first 20 t + 120 ms."""

OUTPUTS = ("aperture", "width", "jaw", "closure", "labiodental", "tongue", "speech")
"""What the network says in a row. ``aperture`` 0 shut to 1 an open "ah"; ``width`` -1 rounded to 1
spread; ``jaw`` 0 to 1; the others are probabilities: lips pressed together, lower lip at the upper
teeth, tongue at the upper teeth, somebody speaks."""
ROW = (*OUTPUTS, "loudness", "treble")
"""Columns of the rows a ``MotionStream`` hands out: the network's; the speech's own loudness, 0 at
-60 dB of full scale to 1 at -10 dB; and the share of its energy up to 5 kHz that is above 1 kHz."""
COLUMN = {name: i for i, name in enumerate(ROW)}
PROBABILITIES = slice(COLUMN["closure"], len(OUTPUTS))
