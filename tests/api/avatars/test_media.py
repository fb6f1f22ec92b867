"""The media stores: a folder, and a bucket on a real S3 server."""

import asyncio
import os
import stat

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from api.avatars.folder import FolderMedia
from api.avatars.media import open_media
from api.avatars.port import MediaMissing
from api.avatars.s3 import S3Media
from api.settings import ApiSettings, SettingsError


@pytest.fixture(scope="module")
def s3_server():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tester")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def bucket_url(s3_server, credentials):
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    client.create_bucket(Bucket="faces")
    client.close()
    return f"s3://faces/some/prefix?endpoint_url={s3_server}&region_name=us-east-1&style=path"


@pytest.fixture(params=["folder", "s3"])
async def media(request, tmp_path):
    url = request.getfixturevalue("bucket_url") if request.param == "s3" else None
    store = await open_media(ApiSettings(data_dir=tmp_path, media_url=url))
    yield store
    await store.aclose()


async def test_what_was_put_is_what_one_gets(media):
    await media.put("avatars/PUBLIC/Avatars/anna/image.jpg", b"first", "image/jpeg")
    await media.put("avatars/PUBLIC/Avatars/anna/image.jpg", b"second", "image/jpeg")
    assert await media.get("avatars/PUBLIC/Avatars/anna/image.jpg") == b"second"


async def test_what_is_missing_is_missing(media):
    with pytest.raises(MediaMissing):
        await media.get("avatars/avat_1/image.jpg")
    await media.delete("avatars/avat_1/image.jpg", "avatars/avat_1/preview.jpg")


async def test_what_was_deleted_is_gone_and_the_rest_is_not(media):
    for name in ("a", "b", "c"):
        await media.put(f"avatars/x/{name}.jpg", name.encode(), "image/jpeg")
    await media.delete("avatars/x/a.jpg", "avatars/x/b.jpg")
    assert await media.get("avatars/x/c.jpg") == b"c"
    for name in ("a", "b"):
        with pytest.raises(MediaMissing):
            await media.get(f"avatars/x/{name}.jpg")


async def test_a_store_that_can_be_written_passes_its_check(media):
    await media.check()


async def test_many_at_once(media):
    keys = [f"avatars/{n}/image.jpg" for n in range(20)]
    await asyncio.gather(*(media.put(key, key.encode(), "image/jpeg") for key in keys))
    assert await asyncio.gather(*(media.get(key) for key in keys)) == [k.encode() for k in keys]
    await asyncio.gather(*(media.delete(key) for key in keys))


# The folder


@pytest.mark.parametrize(
    "key", ["", "..", "../secret", "a/../../b", "/etc/passwd", "a\0b", "a\\..\\b", "a/.."]
)
async def test_keys_never_leave_the_folder(tmp_path, key):
    media = FolderMedia(tmp_path / "media")
    (tmp_path / "secret").write_bytes(b"hush")
    for attempt in (media.get(key), media.put(key, b"", "image/jpeg"), media.delete(key)):
        with pytest.raises(ValueError, match="plain relative path"):
            await attempt
    assert (tmp_path / "secret").read_bytes() == b"hush"


async def test_readers_see_the_old_or_the_new_and_never_a_part(tmp_path):
    media = FolderMedia(tmp_path)
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    await media.put("a/x.jpg", old, "image/jpeg")
    writing = asyncio.create_task(media.put("a/x.jpg", new, "image/jpeg"))
    seen = set()
    while not writing.done():
        seen.add(await media.get("a/x.jpg"))
    seen.add(await media.get("a/x.jpg"))
    assert seen <= {old, new}
    assert new in seen


async def test_a_failed_write_leaves_the_old_and_no_draft(tmp_path, monkeypatch):
    media = FolderMedia(tmp_path)
    await media.put("a/x.jpg", b"old", "image/jpeg")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        await media.put("a/x.jpg", b"new", "image/jpeg")
    assert await media.get("a/x.jpg") == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.jpg"]


async def test_photos_are_not_for_other_users_of_the_machine_and_empty_folders_go(tmp_path):
    media = FolderMedia(tmp_path / "media")
    await media.put("avatars/a/x.jpg", b"x", "image/jpeg")
    assert stat.S_IMODE((tmp_path / "media").stat().st_mode) == 0o700
    await media.delete("avatars/a/x.jpg")
    assert not (tmp_path / "media" / "avatars" / "a").exists()
    assert await media.link("avatars/a/x.jpg", 60) is None


async def test_a_folder_that_cannot_be_written_fails_its_check(tmp_path):
    (tmp_path / "media").write_bytes(b"a file in its place")
    with pytest.raises(OSError, match=r"exist|directory"):
        await FolderMedia(tmp_path / "media").check()


# The bucket


async def test_a_presigned_link_shows_the_picture_to_whoever_has_it(bucket_url, tmp_path):
    media = await open_media(ApiSettings(data_dir=tmp_path, media_url=bucket_url))
    await media.put("avatars/a/preview.jpg", b"\xff\xd8 a picture", "image/jpeg")
    link = await media.link("avatars/a/preview.jpg", 60)
    assert "some/prefix/avatars/a/preview.jpg" in link
    assert "X-Amz-Expires=60" in link
    async with httpx.AsyncClient() as client:
        answer = await client.get(link)
    assert (answer.status_code, answer.content) == (200, b"\xff\xd8 a picture")
    assert answer.headers["content-type"] == "image/jpeg"
    await media.aclose()


async def test_a_bucket_clients_cannot_reach_gives_no_links(bucket_url, tmp_path):
    media = await open_media(ApiSettings(data_dir=tmp_path, media_url=bucket_url + "&links=off"))
    assert await media.link("avatars/a/preview.jpg", 60) is None
    await media.aclose()


async def test_a_bucket_that_is_not_there_fails_its_check(bucket_url, tmp_path):
    url = bucket_url.replace("//faces/", "//absent/")
    media = await open_media(ApiSettings(data_dir=tmp_path, media_url=url))
    with pytest.raises(Exception, match="NoSuchBucket"):
        await media.check()
    await media.aclose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://faces", "must begin with s3://"),
        ("s3://", "write it as"),
        ("s3://faces?endpoint=http://x", "write it as"),
        ("s3://faces?style=odd", "write it as"),
        ("s3://faces?links=maybe", "write it as"),
        ("s3://key:hush@faces", "credentials do not belong"),
        ("s3://faces?endpoint_url=nowhere&region_name=x", "endpoint"),
    ],
)
async def test_a_wrong_address_says_how_to_write_it(tmp_path, credentials, url, said):
    with pytest.raises(SettingsError, match=said) as caught:
        await open_media(ApiSettings(data_dir=tmp_path, media_url=url))
    assert "AVATAR_API_MEDIA_URL" in str(caught.value)
    assert "hush" not in str(caught.value)


async def test_keys_in_a_bucket_lie_below_the_prefix():
    class Client:
        def put_object(self, **what):
            self.what = what

    client = Client()
    await S3Media(client, "faces", "some/prefix").put("a/b.jpg", b"x", "image/jpeg")
    assert (client.what["Bucket"], client.what["Key"]) == ("faces", "some/prefix/a/b.jpg")
    await S3Media(client, "faces", "").put("a/b.jpg", b"x", "image/jpeg")
    assert client.what["Key"] == "a/b.jpg"
