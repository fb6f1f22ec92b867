"""Photos by URL, against a real server behind made-up names and addresses."""

import asyncio
import gzip
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.avatars.decode import MAX_BYTES
from api.avatars.fetch import ImageFetcher
from api.http.errors import ApiError
from tests.fakes.image_site import PUBLIC, PUBLIC6, image_site

PHOTO = b"\xff\xd8\xff the bytes of a photo"


@pytest.fixture
async def site():
    async with image_site() as running:
        running.serve("/photo.jpg", PHOTO)
        yield running


def fetcher(site, **options):
    return ImageFetcher(
        **{"resolver": site.resolver, "connector": site.connector, "time_limit_s": 5.0} | options
    )


async def refusal(site, url, **options):
    with pytest.raises(ApiError) as caught:
        await fetcher(site, **options).fetch(url)
    assert caught.value.suggestion
    return caught.value


async def test_a_photo_is_fetched_from_the_address_that_was_checked(site):
    assert await fetcher(site).fetch("http://photos.test:8080/photo.jpg") == PHOTO
    assert site.connected == [PUBLIC]
    path, headers = site.requests[0]
    assert (path, headers["host"]) == ("/photo.jpg", "photos.test:8080")
    assert headers["accept-encoding"] == "identity"
    assert "cookie" not in headers
    assert "authorization" not in headers


async def test_query_and_names_beyond_ascii_are_sent_as_they_must_be(site):
    site.serve("/b%C3%BCste.jpg?size=1%202", PHOTO)
    assert await fetcher(site).fetch(" http://bücher.test/büste.jpg?size=1 2 ") == PHOTO
    assert site.lookups == ["xn--bcher-kva.test"]


async def test_the_proxies_of_the_environment_are_not_asked(site, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await fetcher(site).fetch("http://photos.test/photo.jpg") == PHOTO


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[ff02::1]/",
        "http://10.1.2.3:8080/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://localhost/",
        "http://LocalHost:80/",
    ],
)
async def test_addresses_that_are_not_public_are_refused(site, url):
    error = await refusal(site, url)
    assert (error.status, error.code) == (400, "IMAGE_URL_NOT_ALLOWED")
    assert site.connected == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "http"),
        ("ftp://photos.test/photo.jpg", "http"),
        ("gopher://photos.test/", "http"),
        ("photos.test/photo.jpg", "http"),
        ("http:///photo.jpg", "no host"),
        ("http://somebody:pass@photos.test/photo.jpg", "user name or password"),
        ("http://somebody@photos.test/photo.jpg", "user name or password"),
        ("http://photos.test:99999/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
        ("http://photos.test/" + 9000 * "x", "longer"),
        ("http://photos.test/\r\nX: y", "not a valid URL"),
    ],
)
async def test_urls_of_other_kinds_are_refused_and_nothing_is_looked_up(site, url, said):
    error = await refusal(site, url)
    assert error.code == "IMAGE_URL_NOT_ALLOWED"
    assert said in error.message
    assert site.lookups == []


async def test_the_refusal_names_neither_the_address_nor_the_secrets_in_a_url(site):
    site.names["inside.test"] = [["10.9.8.7"]]
    error = await refusal(site, "http://inside.test/x?token=hush")
    assert "10.9.8.7" not in str(error.body())
    assert "hush" not in str(error.body())


async def test_one_private_address_among_public_ones_is_enough(site):
    site.names["mixed.test"] = [[PUBLIC, "10.0.0.1"]]
    assert (await refusal(site, "http://mixed.test/photo.jpg")).code == "IMAGE_URL_NOT_ALLOWED"
    assert site.connected == []


async def test_a_name_that_answers_differently_the_second_time_gains_nothing(site):
    site.names["rebinding.test"] = [[PUBLIC], ["127.0.0.1"]]
    assert await fetcher(site).fetch("http://rebinding.test/photo.jpg") == PHOTO
    assert site.lookups == ["rebinding.test"]
    assert site.connected == [PUBLIC]
    # And asked again, the new answer is checked again.
    error = await refusal(site, "http://rebinding.test/photo.jpg")
    assert error.code == "IMAGE_URL_NOT_ALLOWED"
    assert site.connected == [PUBLIC]


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/", "http://inside.test/", "//169.254.169.254/", "file:///etc/passwd"],
)
async def test_redirects_lead_to_allowed_places_only(site, target):
    site.names["inside.test"] = [["192.168.0.10"]]
    site.redirect("/moved", target)
    assert (await refusal(site, "http://photos.test/moved")).code == "IMAGE_URL_NOT_ALLOWED"
    assert site.connected == [PUBLIC]


async def test_a_redirect_to_the_same_name_is_checked_on_its_own_connection(site):
    """The name points inside by the time the redirect is followed to another port."""
    site.names["rebinding.test"] = [[PUBLIC], ["127.0.0.1"]]
    site.redirect("/moved", "http://rebinding.test:6379/")
    assert (await refusal(site, "http://rebinding.test/moved")).code == "IMAGE_URL_NOT_ALLOWED"


async def test_three_redirects_are_followed_and_not_four(site):
    for number in range(4):
        site.redirect(f"/{number}", f"/{number - 1}" if number else "/photo.jpg")
    assert await fetcher(site).fetch("http://photos.test/2") == PHOTO
    error = await refusal(site, "http://photos.test/3")
    assert error.code == "IMAGE_URL_UNREACHABLE"
    assert "redirects" in error.message


async def test_the_second_address_is_tried_when_the_first_does_not_answer(site):
    site.names["two.test"] = [["8.8.8.8", PUBLIC6]]
    assert await fetcher(site).fetch("http://two.test/photo.jpg") == PHOTO
    assert site.connected == ["8.8.8.8", PUBLIC6]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [("/absent", 404, "404"), ("/broken", 500, "500"), ("/nowhere", 302, "nowhere")],
)
async def test_other_answers_than_a_photo_are_told(site, path, status, said):
    if status != 404:
        site.serve(path, b"", status)
    error = await refusal(site, f"http://photos.test{path}")
    assert (error.status, error.code) == (400, "IMAGE_URL_UNREACHABLE")
    assert said in error.message


async def test_names_without_an_address_are_unreachable(site):
    site.names["gone.test"] = [[]]
    assert (await refusal(site, "http://gone.test/")).code == "IMAGE_URL_UNREACHABLE"
    site.names["dead.test"] = [["8.8.8.8"]]
    assert (await refusal(site, "http://dead.test/")).code == "IMAGE_URL_UNREACHABLE"


async def test_a_slow_drip_is_cut_off_after_the_whole_time(site):
    async def drip(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    site.script("/drip", drip)
    began = asyncio.get_running_loop().time()
    error = await refusal(site, "http://photos.test/drip", time_limit_s=0.5)
    assert error.code == "IMAGE_URL_UNREACHABLE"
    assert "0.5 s" in error.message
    assert asyncio.get_running_loop().time() - began < 2


async def test_an_endless_body_is_cut_off_at_ten_megabytes(site):
    sent = 0

    async def pour(writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()
            sent += 65536

    site.script("/pour", pour)
    error = await refusal(site, "http://photos.test/pour")
    assert (error.status, error.code) == (413, "IMAGE_TOO_LARGE")
    assert sent < MAX_BYTES + 8 * 2**20


async def test_a_length_over_ten_megabytes_is_refused_unread(site):
    site.serve("/huge", b"x", Content_Length=str(MAX_BYTES + 1))
    assert (await refusal(site, "http://photos.test/huge")).code == "IMAGE_TOO_LARGE"
    site.serve("/largest", bytes(MAX_BYTES))
    assert len(await fetcher(site).fetch("http://photos.test/largest")) == MAX_BYTES


async def test_a_body_shorter_than_it_says_is_no_photo(site):
    site.serve("/short", PHOTO, Content_Length="5000")
    error = await refusal(site, "http://photos.test/short")
    assert error.code == "IMAGE_URL_UNREACHABLE"
    assert "broke off" in error.message


async def test_a_compressed_bomb_is_not_unpacked(site):
    site.serve("/bomb", gzip.compress(bytes(50 * 2**20)), Content_Encoding="gzip")
    assert (await refusal(site, "http://photos.test/bomb")).code == "IMAGE_URL_UNREACHABLE"


async def test_what_is_no_http_is_unreachable(site):
    async def banner(writer):
        writer.write(b"220 mail.test ESMTP\r\n" * 10)
        await writer.drain()

    site.script("/mail", banner)
    assert (await refusal(site, "http://photos.test/mail")).code == "IMAGE_URL_UNREACHABLE"


async def test_private_addresses_are_reached_where_the_operator_says_so(site):
    url = f"http://127.0.0.1:{site.port}/photo.jpg"
    assert await ImageFetcher(allow_private=True).fetch(url) == PHOTO
    with pytest.raises(ApiError) as caught:
        await ImageFetcher().fetch(url)
    assert caught.value.code == "IMAGE_URL_NOT_ALLOWED"


def certified(name):
    """A server's and a client's TLS context for one host name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate.public_bytes(serialization.Encoding.PEM)


async def test_tls_is_verified_against_the_name_and_not_the_address(tmp_path):
    key, certificate = certified("photos.test")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        certificate
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    trust = ssl.create_default_context(cadata=certificate.decode())
    async with image_site(server) as site:
        site.serve("/photo.jpg", PHOTO)
        assert await fetcher(site, tls=trust).fetch("https://photos.test/photo.jpg") == PHOTO
        assert site.requests[0][1]["host"] == "photos.test"
        # Another name at the same address, and an authority nobody trusts.
        assert (
            await refusal(site, "https://other.test/photo.jpg", tls=trust)
        ).code == "IMAGE_URL_UNREACHABLE"
        assert (
            await refusal(site, "https://photos.test/photo.jpg")
        ).code == "IMAGE_URL_UNREACHABLE"
        assert len(site.requests) == 1
