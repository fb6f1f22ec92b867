import av
import numpy as np
import pytest

from worker.ingest.speech_file import SpeechFileError, read_speech


def write(path, codec, rate, layout="mono", seconds=0.5):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        channels = len(stream.layout.channels)
        tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
        samples = np.tile(tone.astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        converter = av.AudioResampler(stream.format.name, layout, rate, stream.frame_size or None)
        for piece in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 16_000, "mono"),
        ("a.wav", "pcm_s24le", 48_000, "stereo"),
        ("a.flac", "flac", 44_100, "stereo"),
        ("a.mp3", "libmp3lame", 24_000, "mono"),
        ("a.m4a", "aac", 48_000, "stereo"),
        ("a.ogg", "libopus", 48_000, "mono"),
    ],
)
def test_reads_what_people_have(tmp_path, name, codec, rate, layout):
    write(tmp_path / name, codec, rate, layout)
    pcm, read_rate = read_speech(tmp_path / name)
    assert read_rate == rate
    assert pcm.dtype == np.int16
    assert len(pcm) / rate == pytest.approx(0.5, abs=0.06)
    spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
    peak_hz = spectrum.argmax() * rate / len(pcm)
    assert peak_hz == pytest.approx(440, abs=5)


def test_an_unusual_rate_is_converted(tmp_path):
    write(tmp_path / "a.wav", "pcm_s16le", 96_000)
    pcm, rate = read_speech(tmp_path / "a.wav")
    assert rate == 48_000
    assert len(pcm) == pytest.approx(24_000, abs=50)


def test_what_is_no_speech_file_is_named_with_a_remedy(tmp_path):
    with pytest.raises(SpeechFileError, match=r"nothing\.wav does not exist"):
        read_speech(tmp_path / "nothing.wav")
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(SpeechFileError, match=r"text\.wav cannot be read as sound.*send WAV"):
        read_speech(tmp_path / "text.wav")
    with pytest.raises(SpeechFileError, match="is a folder"):
        read_speech(tmp_path)
