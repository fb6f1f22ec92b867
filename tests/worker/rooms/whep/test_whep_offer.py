from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.rooms.whep.offer import BadOffer, UnusableOffer, parse_offer

HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"
VP8 = "a=rtpmap:96 VP8/90000\r\n"
H264 = "a=rtpmap:102 H264/90000\r\n"
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96 102\r\na=recvonly\r\n"


def test_a_browsers_offer_gets_vp8_and_opus() -> None:
    offer = parse_offer(HEAD + AUDIO + VIDEO + H264 + VP8)
    assert (offer.video, offer.audio) == ("VP8", True)


def test_h264_serves_those_who_have_nothing_else() -> None:
    assert parse_offer(HEAD + VIDEO + H264).video == "H264"


def test_sound_alone_is_fine() -> None:
    offer = parse_offer(HEAD + AUDIO)
    assert (offer.video, offer.audio) == (None, True)


def test_names_that_hide_a_browsers_address_are_not_looked_up() -> None:
    named = "a=candidate:1 1 udp 2113937151 0a1b-2c3d.local 50000 typ host generation 0\r\n"
    plain = "a=candidate:2 1 udp 2113937151 192.0.2.7 50001 typ host\r\n"
    end = "a=end-of-candidates\r\n"
    offer = parse_offer(HEAD + AUDIO + named + plain + end + VIDEO + VP8)
    assert offer.sdp == HEAD + AUDIO + plain + VIDEO + VP8
    assert parse_offer(HEAD + AUDIO + plain + end).sdp == HEAD + AUDIO + plain + end


@pytest.mark.parametrize("body", ["", "hello", "{}", "<html>", HEAD, HEAD + "x" * 70_000])
def test_what_is_no_offer_is_bad(body: str) -> None:
    with pytest.raises(BadOffer):
        parse_offer(body)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (VIDEO + VP8 + VIDEO + VP8, "at most one"),
        (AUDIO + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "at most one"),
        (VIDEO + "a=rtpmap:98 VP9/90000\r\n", "neither VP8 nor H.264"),
        (AUDIO.replace("opus", "PCMU"), "no Opus"),
        (VIDEO.replace("recvonly", "sendonly") + VP8, "must be recvonly"),
    ],
)
def test_what_cannot_be_served_is_told(body: str, complaint: str) -> None:
    with pytest.raises(UnusableOffer, match=complaint):
        parse_offer(HEAD + body)


@given(
    st.text() | st.lists(st.sampled_from([AUDIO, VIDEO, VP8, H264, "m=\r\n", "\r\n"])).map("".join)
)
def test_nothing_else_is_ever_raised(body: str) -> None:
    for text in (body, HEAD + body):
        with contextlib.suppress(BadOffer, UnusableOffer):
            parse_offer(text)
