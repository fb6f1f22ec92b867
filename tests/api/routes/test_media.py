"""``/media/avatars/…``: anyone who has a link sees the picture, for a day."""

from urllib.parse import parse_qs, urlsplit

import pytest

from api.avatars.folder import FolderMedia
from api.plans import load_plans
from tests.fakes.avatar_api import QuickPortraits, avatar_api


@pytest.fixture
async def api(tmp_path):
    async with avatar_api(tmp_path, QuickPortraits()) as running:
        yield running


@pytest.fixture
async def avatar(api):
    account, _ = await api.account()
    plan = load_plans(None, "enterprise").get("enterprise")
    return await api.avatars.from_bytes(account, plan, b"photo")


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_link_shows_its_picture(api, avatar):
    for url, data in (
        (api.avatars.preview_url(avatar), b"preview of photo"),
        (api.avatars.image_url(avatar), b"image of photo"),
    ):
        answer = await api.http.get(url)
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "private, max-age=3600"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_picture_one_has_is_not_sent_again(api, avatar):
    url = api.avatars.image_url(avatar)
    etag = (await api.http.get(url)).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = await api.http.get(url, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    answer = await api.http.get(url, headers={"if-none-match": '"other"'})
    assert answer.status_code == 200


async def test_nobody_keeps_a_picture_longer_than_its_link(api, avatar):
    url = api.avatars.image_url(avatar)
    api.clock.advance(24 * 3600 - 100)
    assert (await api.http.get(url)).headers["cache-control"] == "private, max-age=100"
    api.clock.advance(100)
    assert code(await api.http.get(url)) == (403, "LINK_EXPIRED")


async def test_links_cannot_be_changed_or_guessed(api, avatar):
    url = api.avatars.preview_url(avatar)
    query = parse_qs(urlsplit(url).query)
    exp, sig = query["exp"][0], query["sig"][0]
    folder = f"/media/avatars/{avatar.id}"
    for wrong in (
        f"{folder}/preview",
        f"{folder}/preview?exp={exp}",
        f"{folder}/preview?sig={sig}",
        f"{folder}/preview?exp={int(exp) + 1}&sig={sig}",
        f"{folder}/image?exp={exp}&sig={sig}",
        f"{folder}x/preview?exp={exp}&sig={sig}",
        f"{folder}/preview?exp=x&sig={sig}",
        f"{folder}/preview?exp={exp}&sig=%F0%9F%99%82",
        f"{folder}/preview?exp={exp}&sig={sig[:-1]}",
    ):
        assert code(await api.http.get(wrong)) == (403, "LINK_EXPIRED")
    assert (await api.http.get(f"{folder}/original?exp={exp}&sig={sig}")).status_code == 404


async def test_ids_with_slashes_have_links_too(api):
    await api.avatars.seed_public()
    sample = await api.store.avatar("PUBLIC/Avatars/anna")
    url = api.avatars.preview_url(sample)
    assert "/media/avatars/PUBLIC/Avatars/anna/preview?" in url
    assert (await api.http.get(url)).status_code == 200
    escaped = url.replace("PUBLIC/Avatars/anna", "PUBLIC%2FAvatars%2Fanna")
    assert (await api.http.get(escaped)).status_code == 200


async def test_a_deleted_avatar_s_links_lead_nowhere(api, avatar):
    url = api.avatars.image_url(avatar)
    account = await api.store.account(avatar.account_id)
    await api.avatars.delete(account, avatar.id)
    assert code(await api.http.get(url)) == (404, "AVATAR_NOT_FOUND")


class LinkedMedia(FolderMedia):
    async def link(self, key, expires_s):
        return f"https://bucket.test/{key}?for={expires_s}"


async def test_a_bucket_s_own_link_is_where_one_is_sent(tmp_path):
    media = LinkedMedia(tmp_path / "media")
    async with avatar_api(tmp_path, QuickPortraits(), media=media) as api:
        await api.avatars.seed_public()
        sample = await api.store.avatar("PUBLIC/Avatars/anna")
        url = api.avatars.preview_url(sample)
        answer = await api.http.get(url)
        assert answer.status_code == 307
        assert answer.headers["location"] == f"https://bucket.test/{sample.preview_key}?for=900"
        assert answer.headers["cache-control"] == "private, max-age=450"
        api.clock.advance(24 * 3600 - 100)
        assert (await api.http.get(url)).headers["location"].endswith("?for=100")
        api.clock.advance(100)
        assert code(await api.http.get(url)) == (403, "LINK_EXPIRED")
