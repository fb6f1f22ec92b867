"""The page that shows a demo."""

import numpy as np

from models.face import load_photo
from portraits import ANNA
from scripts.demo_sheet import openings


def test_the_mouth_of_every_picture_is_measured_in_order():
    face = load_photo(ANNA.path)
    nobody = np.full_like(face, 128)
    found = openings([nobody, face, nobody, face])
    assert np.isnan(found[[0, 2]]).all()
    assert 0 <= found[1] < 0.1  # she smiles with her lips closed
    assert found[1] == found[3]
