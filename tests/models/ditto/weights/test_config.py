"""The released configuration is data, or it is refused."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from models.ditto.weights.config import (
    CONFIG_JSON,
    CONFIG_NPZ,
    MAX_BYTES,
    ConfigError,
    convert_config,
    read_config,
)

rng = np.random.default_rng(0)
LIMITS = np.stack([np.full(265, -2.0), np.full(265, 3.0), np.zeros(265), np.ones(265)])
RELEASED = {
    "base_cfg": {"lmdm_cfg": {"motion_feat_dim": 265}, "names": ("exp", "kp")},
    "default_kwargs": {
        "overlap_v2": 70,
        "online_mode": True,
        "fade_type": "",
        "smo_k_d": 3.0,
        "ctrl_info": {},
        "drive_eye": None,
        "fix_kp_cond_dim": [0, 202],
        "gain": np.float32(0.5),
        "emo": rng.random((600, 8)).astype(np.float32),
        "delta_eye_arr": np.asfortranarray(rng.normal(size=(15, 63))),
        "v_min_max_for_clip": LIMITS.astype(np.float32),
        "ch_info": {"exp": np.zeros((1, 63), np.float32), "x_s_info": {"t": np.zeros((1, 3))}},
    },
}


def pickled(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / "config.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_was_released_is_what_is_read(tmp_path, protocol):
    convert_config(pickled(tmp_path, RELEASED, protocol), tmp_path)
    (tmp_path / "config.pkl").unlink()
    config = read_config(tmp_path)
    given = RELEASED["default_kwargs"]
    assert config.settings["overlap_v2"] == 70
    assert config.settings["online_mode"] is True
    assert config.settings["drive_eye"] is None
    assert config.settings["gain"] == 0.5
    assert config.values["base_cfg"]["names"] == ["exp", "kp"]
    np.testing.assert_array_equal(config.emotion, given["emo"])
    np.testing.assert_allclose(config.blink, given["delta_eye_arr"], rtol=1e-7)
    low, high = config.clip
    assert (low == -2).all()
    assert (high == 3).all()
    assert config.reference.keys() == {"exp", "t"}
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_JSON, CONFIG_NPZ}


def test_arrays_keep_their_type_and_order(tmp_path):
    arrays = {
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 4)),
    }
    convert_config(pickled(tmp_path, arrays), tmp_path)
    found = read_config(tmp_path).values
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


class Shell:
    """What an attacker pickles."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self._call


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Shell(os.system, "touch {mark}"), "system"),
        (Shell(eval, "open('{mark}', 'w')"), "builtins.eval"),
        (Shell(getattr, str, "join"), "builtins.getattr"),
        (Shell(np.load, "{mark}"), r"numpy.*load"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        ({"a": {1, 2}}, "set"),
        ({"a": b"bytes"}, r"\.a is a bytes"),
        ({"a": 1j}, "complex"),
        ({"a": np.array([Path("x")], dtype=object)}, "array of object|pathlib"),
        ({"a": np.array(["text"])}, "array of <U4"),
        ({(1, 2): 3}, "a key of its tree is a tuple"),
    ],
)
def test_what_is_no_data_is_refused_by_name(tmp_path, content, named):
    mark = tmp_path / "mark"
    if isinstance(content, Shell):
        function, arguments = content.__reduce__()
        texts = (a.format(mark=mark) if isinstance(a, str) else a for a in arguments)
        content = {"default_kwargs": Shell(function, *texts)}
    protocol = 4
    with pytest.raises(ConfigError, match=f"is refused: .*({named})"):
        convert_config(pickled(tmp_path, content, protocol), tmp_path)
    assert not mark.exists()
    assert not (tmp_path / CONFIG_JSON).exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray\n(tR(I1\n(I9\ntcnumpy\ndtype\n(S'f8'\ntRI00\nS'short'\ntb.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'x'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"(cnumpy\ndtype\nS'f8'\nd.",
        b"S'id'\nQ.",
    ],
)
def test_crafted_programs_of_allowed_words_are_refused(tmp_path, program):
    path = tmp_path / "crafted.pkl"
    path.write_bytes(program)
    with pytest.raises(ConfigError, match=r"refused|damaged"):
        convert_config(path, tmp_path)


def test_damaged_or_huge_or_deep_files_are_one_sentence(tmp_path):
    path = pickled(tmp_path, RELEASED)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="damaged"):
        convert_config(path, tmp_path)
    path.write_bytes(b"(" * 10 + b"]" * 200_000 + b"." + b"a")
    with pytest.raises(ConfigError, match=r"damaged|refused|holds a list"):
        convert_config(path, tmp_path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="no configuration"):
        convert_config(path, tmp_path)
    with pytest.raises(ConfigError, match="a list, not a dictionary"):
        convert_config(pickled(tmp_path, [1]), tmp_path)


def test_what_is_missing_names_the_command(tmp_path):
    with pytest.raises(ConfigError, match=r"ditto_config.json is missing; run: python scripts"):
        read_config(tmp_path)
    with pytest.raises(ConfigError, match="run: python scripts"):
        convert_config(tmp_path / "none.pkl", tmp_path)
    convert_config(pickled(tmp_path, RELEASED), tmp_path)
    (tmp_path / CONFIG_NPZ).write_bytes(b"PK")
    with pytest.raises(ConfigError, match="Delete them"):
        read_config(tmp_path)


def test_arrays_of_another_shape_are_named(tmp_path):
    wrong = {"default_kwargs": {"emo": np.zeros((3, 7)), "v_min_max_for_clip": LIMITS[::-1]}}
    config = convert_config(pickled(tmp_path, wrong), tmp_path)
    with pytest.raises(ConfigError, match=r"emo is \(3, 7\), not n x 8"):
        _ = config.emotion
    with pytest.raises(ConfigError, match="lower, upper"):
        _ = config.clip
    assert config.blink is None
    assert config.reference is None
