"""``Avatars``: what is kept, counted, shared and forgotten."""

import asyncio
import base64
import hashlib
from dataclasses import replace

import pytest

from api.avatars.catalogue import PUBLIC
from api.avatars.port import MediaMissing
from api.dispatch.port import Capacity
from api.http.errors import ApiError
from api.plans import load_plans
from api.records import Avatar
from api.settings import DEFAULT_AVATAR
from tests.fakes.avatar_api import QuickPortraits, avatar_api


@pytest.fixture
def portraits():
    return QuickPortraits()


@pytest.fixture
async def api(tmp_path, portraits):
    async with avatar_api(tmp_path, portraits) as running:
        yield running


def plan(key):
    return load_plans(None, "pro").get(key)


PRO = plan("pro")


async def upload(api, account, photo=b"photo", on=PRO):
    return await api.avatars.from_bytes(account, on, photo)


async def refusal(doing):
    with pytest.raises(ApiError) as caught:
        await doing
    return caught.value


async def settle(api):
    """Let what runs in the background end."""
    await asyncio.gather(*api.avatars._background)


async def test_everything_of_an_avatar_lies_in_its_folder(api):
    account, _ = await api.account()
    avatar = await upload(api, account)
    assert avatar.id.startswith("avat_")
    assert (avatar.ratio, avatar.created_at) == ("3:4", api.clock())
    assert avatar.digest == hashlib.sha256(b"photo").hexdigest()
    folder = f"avatars/{avatar.id}"
    names = ("1x1.jpg", "3x4.jpg", "4x3.jpg", "image.jpg", "original", "preview.jpg")
    assert api.files() == [f"{folder}/{name}" for name in names]
    assert await api.media.get(avatar.original_key) == b"photo"
    assert await api.avatars.picture(avatar, "preview") == b"preview of photo"


async def test_the_same_bytes_are_the_same_avatar_and_count_once(api, portraits):
    account, _ = await api.account("explorer")
    explorer = plan("explorer")
    first = await upload(api, account, on=explorer)
    again = await upload(api, account, on=explorer)
    text = base64.b64encode(b"photo").decode()
    assert first == again == await api.avatars.from_base64(account, explorer, text)
    assert len(portraits.made) == 1
    assert (await api.store.usage(account, explorer, api.clock())).avatars_used == 1
    # Another account's are its own.
    other, _ = await api.account()
    assert (await upload(api, other)).id != first.id


async def test_the_plan_counts_avatars_and_the_known_photo_is_welcome_when_it_is_full(
    api, portraits
):
    account, _ = await api.account("explorer")
    explorer = plan("explorer")
    for number in range(20):
        await upload(api, account, b"photo %d" % number, explorer)
    made = len(portraits.made)
    error = await refusal(upload(api, account, b"one more", explorer))
    assert (error.status, error.code) == (403, "AVATAR_LIMIT_REACHED")
    assert error.message == "Avatar limit reached for this billing cycle"
    assert error.details == {"avatars": {"limit": 20, "used": 20, "remaining": 0}}
    assert len(portraits.made) == made
    assert (await upload(api, account, b"photo 3", explorer)).account_id == account.id


async def test_free_accounts_have_no_avatars_and_nothing_is_fetched_for_them(api, portraits):
    account, _ = await api.account("free")
    for doing in (
        upload(api, account, on=plan("free")),
        api.avatars.from_url(account, plan("free"), "http://127.0.0.1:1/photo.jpg"),
    ):
        error = await refusal(doing)
        assert (error.status, error.code) == (403, "AVATAR_LIMIT_REACHED")
        assert error.message == "Custom avatars are not available on your plan"
        assert error.details == {"avatars": {"limit": 0, "used": 0, "remaining": 0}}
    assert portraits.made == []


async def test_uploads_at_once_never_exceed_the_plan_and_leave_nothing_behind(api, portraits):
    account, _ = await api.account("explorer")
    explorer = plan("explorer")
    for number in range(18):
        await upload(api, account, b"photo %d" % number, explorer)
    portraits.hold.clear()
    racing = [asyncio.create_task(upload(api, account, b"race %d" % n, explorer)) for n in range(6)]
    await portraits.asked(24)
    portraits.hold.set()
    outcomes = await asyncio.gather(*racing, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    assert len(refused) == 4
    assert {error.code for error in refused} == {"AVATAR_LIMIT_REACHED"}
    own = await api.store.avatars_of(account.id)
    assert len(own) == 20
    assert {name.split("/")[1] for name in api.files()} == {avatar.id for avatar in own}


async def test_the_same_photo_twice_at_once_is_one_avatar(api, portraits):
    account, _ = await api.account()
    portraits.hold.clear()
    racing = [asyncio.create_task(upload(api, account)) for _ in range(4)]
    await portraits.asked(4)
    portraits.hold.set()
    assert len({avatar.id for avatar in await asyncio.gather(*racing)}) == 1
    assert len({name.split("/")[1] for name in api.files()}) == 1


async def test_a_refused_photo_leaves_nothing(api):
    account, _ = await api.account()
    assert (await refusal(upload(api, account, b"nobody is in it"))).code == "INVALID_IMAGE"
    assert api.files() == []
    assert (await api.store.usage(account, PRO, api.clock())).avatars_used == 0


async def test_a_store_that_fails_half_way_leaves_nothing(api, monkeypatch):
    account, _ = await api.account()
    put = api.media.put

    async def full(key, data, kind):
        if key.endswith("preview.jpg"):
            raise OSError(28, "No space left on device")
        await put(key, data, kind)

    monkeypatch.setattr(api.media, "put", full)
    with pytest.raises(OSError, match="No space"):
        await upload(api, account)
    assert api.files() == []
    assert await api.store.avatars_of(account.id) == []


async def test_an_upload_nobody_waits_for_any_more_is_stored_whole(api, monkeypatch):
    account, _ = await api.account()
    began, go_on, put = asyncio.Event(), asyncio.Event(), api.media.put

    async def slow(key, data, kind):
        began.set()
        await go_on.wait()
        await put(key, data, kind)

    monkeypatch.setattr(api.media, "put", slow)
    task = asyncio.create_task(upload(api, account))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await api.avatars.aclose()
    (avatar,) = await api.store.avatars_of(account.id)
    assert len(api.files()) == 6
    assert await api.avatars.picture(avatar, "image") == b"image of photo"


async def test_photos_over_ten_megabytes_are_not_looked_at(api, portraits):
    account, _ = await api.account()
    error = await refusal(upload(api, account, bytes(10 * 2**20 + 1)))
    assert (error.status, error.code) == (413, "IMAGE_TOO_LARGE")
    assert "10.0 MB" in error.message
    assert portraits.made == []


async def test_who_may_use_which_avatar(api):
    await api.avatars.seed_public()
    owner, _ = await api.account()
    stranger, _ = await api.account()
    own = await upload(api, owner)
    assert await api.avatars.resolve(owner, own.id) == own
    error = await refusal(api.avatars.resolve(stranger, own.id))
    assert (error.status, error.code) == (403, "AVATAR_ACCESS_DENIED")
    for unknown in ("avat_unknown", "", "x" * 5000, "nul\0", "\ud800", "PUBLIC/Avatars/nobody"):
        error = await refusal(api.avatars.resolve(owner, unknown))
        assert (error.status, error.code) == (404, "AVATAR_NOT_FOUND")
    assert (await api.avatars.resolve(stranger, DEFAULT_AVATAR)).account_id is None


async def test_the_ids_stock_clients_ask_for_are_the_default_avatar(api):
    await api.avatars.seed_public()
    account, _ = await api.account()
    for alias in ("avat_01KMZHXFPBVCXA5ATK85HCP8G1", "avat_01KMZJ4WE5QCD9G3EK21QW8NJK"):
        assert (await api.avatars.resolve(account, alias)).id == DEFAULT_AVATAR


async def public_avatars(api):
    account, _ = await api.account()
    public, own = await api.avatars.visible(account)
    assert own == []
    return public


async def test_the_public_avatars_are_made_once_and_listed_in_their_order(api, portraits):
    await api.avatars.seed_public()
    await api.avatars.seed_public()
    assert portraits.made == [who.path.read_bytes() for who in PUBLIC.values()]
    public = await public_avatars(api)
    assert [avatar.id for avatar in public] == [
        f"PUBLIC/Avatars/{name}" for name in ("anna", "mark", "rosa", "sam")
    ]
    shown = [api.avatars.as_json(avatar) for avatar in public]
    assert [avatar["name"] for avatar in shown] == ["Anna", "Mark", "Rosa", "Sam"]
    assert all(avatar["tags"][0] == "public" for avatar in shown)
    assert shown[0]["tags"] == ["public", "woman", "young", "garden"]


async def test_a_person_whose_picture_changed_is_made_again_in_the_same_place(api, portraits):
    await api.avatars.seed_public()
    before = await public_avatars(api)
    old = replace(before[1], digest="of another picture")
    await api.store.add_avatar(old, PRO, api.clock())
    await api.media.put(old.preview_key, b"the old preview", "image/jpeg")
    api.clock.advance(1000)
    await api.avatars.seed_public()
    assert len(portraits.made) == len(PUBLIC) + 1
    assert await public_avatars(api) == before
    photo = PUBLIC[old.id].path.read_bytes()
    assert await api.avatars.picture(before[1], "preview") == b"preview of " + photo


FORMER = "PUBLIC/Avatars/sample"


async def test_a_database_with_the_former_public_avatar_goes_on_working(api):
    """It is not offered any more, and its id stands for the default avatar."""
    folder = f"avatars/{FORMER}"
    former = Avatar(
        FORMER,
        None,
        "4:3",
        "of the former picture",
        f"{folder}/original",
        f"{folder}/image.jpg",
        f"{folder}/preview.jpg",
        api.clock(),
    )
    await api.store.add_avatar(former, PRO, api.clock())
    await api.media.put(f"{folder}/4x3.jpg", b"the former face", "image/jpeg")
    api.clock.advance(10)
    await api.avatars.seed_public()
    assert [avatar.id for avatar in await public_avatars(api)] == list(PUBLIC)
    account, _ = await api.account()
    assert (await api.avatars.resolve(account, FORMER)).id == DEFAULT_AVATAR
    # A session that was created with it gets its face all the same.
    assert await api.store.avatar(FORMER) == former
    assert await api.avatars.portrait(former, "4:3") == b"the former face"


async def test_the_former_id_works_in_a_new_installation_and_as_the_default(tmp_path, portraits):
    async with avatar_api(tmp_path, portraits, default_avatar=FORMER) as api:
        await api.avatars.seed_public()
        account, _ = await api.account()
        for asked in (FORMER, "avat_01KMZHXFPBVCXA5ATK85HCP8G1"):
            assert (await api.avatars.resolve(account, asked)).id == DEFAULT_AVATAR


async def test_a_server_that_cannot_examine_photos_yet_starts_and_has_its_avatars_later(
    api, portraits, monkeypatch
):
    """As while the face models are being fetched."""
    monkeypatch.setattr("api.avatars.catalogue.START_WAIT_S", 0.01)
    monkeypatch.setattr("api.avatars.catalogue.PAUSES_S", (0.01, 0.01))
    make, failures = portraits.make, iter(range(2))

    async def not_yet(photo):
        if next(failures, None) is not None:
            raise ApiError(503, "IMAGE_CHECK_UNAVAILABLE", "no models")
        return await make(photo)

    portraits.make = not_yet
    portraits.hold.clear()
    await api.avatars.seed_public()
    assert await api.store.avatar(DEFAULT_AVATAR) is None
    portraits.hold.set()
    for avatar_id in PUBLIC:
        await api.avatars._catalogue.ready(avatar_id)
        assert (await api.store.avatar(avatar_id)).account_id is None


async def test_who_asks_for_a_public_avatar_waits_until_it_is_made(api, portraits, monkeypatch):
    monkeypatch.setattr("api.avatars.catalogue.START_WAIT_S", 0.01)
    account, _ = await api.account()
    portraits.hold.clear()
    await api.avatars.seed_public()
    last = list(PUBLIC)[-1]
    asking = asyncio.create_task(api.avatars.resolve(account, last))
    with pytest.raises(ApiError, match="not found"):
        await api.avatars.resolve(account, "avatar_01KMZHXFPBVCXA5ATK85HCP8G2")
    assert not asking.done()
    portraits.hold.set()
    assert (await asking).id == last


async def test_public_avatars_that_cannot_be_made_do_not_keep_it_from_closing(api, portraits):
    portraits.hold.clear()
    seeding = asyncio.create_task(api.avatars.seed_public())
    await portraits.asked(1)
    async with asyncio.timeout(5):
        await api.avatars.aclose()
        await seeding


async def test_a_crop_is_made_once_and_kept(api, portraits):
    portraits.with_crops = False
    account, _ = await api.account()
    avatar = await upload(api, account)
    await settle(api)
    portraits.cropped.clear()
    for _ in range(3):
        assert await api.avatars.portrait(avatar, "1:1") == b"1:1 of photo"
    assert portraits.cropped == ["1:1"]
    # Also by the next process.
    api.avatars._pictures._kept.clear()
    assert await api.avatars.portrait(avatar, "1:1") == b"1:1 of photo"
    assert portraits.cropped == ["1:1"]


async def test_workers_hear_of_a_new_avatar_before_its_session(api):
    account, _ = await api.account()
    await upload(api, account)
    await settle(api)
    assert api.dispatcher.warmed == [(b"4:3 of photo", "4:3"), (b"3:4 of photo", "3:4")]


async def test_the_first_worker_there_is_prepares_the_default_avatar(api, monkeypatch):
    monkeypatch.setattr("api.avatars.service.WORKER_POLL_S", 0.01)
    await api.avatars.seed_public()
    slots = 0
    monkeypatch.setattr(api.dispatcher, "capacity", lambda: capacity(slots), raising=False)

    async def capacity(slots):
        return Capacity(1, slots, 0)

    api.avatars.warm_default()
    await asyncio.sleep(0.05)
    assert api.dispatcher.warmed == []
    slots = 2
    async with asyncio.timeout(5):
        await api.avatars._warming_default
    assert [ratio for _, ratio in api.dispatcher.warmed] == ["4:3", "3:4"]


async def test_no_worker_ever_does_not_keep_the_service_from_closing(api, monkeypatch):
    async def none():
        return Capacity(0, 0, 0)

    monkeypatch.setattr(api.dispatcher, "capacity", none, raising=False)
    api.avatars.warm_default()
    await api.avatars.aclose()
    assert api.avatars._warming_default.cancelled()


async def test_warming_is_bounded_and_ends_with_the_service(api):
    account, _ = await api.account()
    api.dispatcher.hold.clear()
    for number in range(12):
        await upload(api, account, b"photo %d" % number)
    assert len(api.avatars._warming) == 8
    closing = asyncio.create_task(api.avatars.aclose())
    await asyncio.sleep(0)
    api.dispatcher.hold.set()
    await closing
    assert len(api.dispatcher.warmed) == 16
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("warm ")]


async def test_a_worker_that_never_answers_does_not_keep_the_service_from_closing(api, monkeypatch):
    monkeypatch.setattr("api.avatars.service.CLOSE_S", 0.05)
    account, _ = await api.account()
    api.dispatcher.hold.clear()
    await upload(api, account)
    await api.avatars.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("warm ")]


async def test_deleting_forgets_every_picture(api):
    account, _ = await api.account()
    kept = await upload(api, account, b"another photo")
    avatar = await upload(api, account)
    await settle(api)
    await api.avatars.portrait(avatar, "4:3")
    await api.avatars.delete(account, avatar.id)
    assert {name.split("/")[1] for name in api.files()} == {kept.id}
    with pytest.raises(MediaMissing):
        await api.media.get(avatar.original_key)
    for doing in (
        api.avatars.resolve(account, avatar.id),
        api.avatars.delete(account, avatar.id),
        api.avatars.portrait(avatar, "4:3"),
        api.avatars.picture(avatar, "image"),
    ):
        assert (await refusal(doing)).code == "AVATAR_NOT_FOUND"


async def test_a_deleted_photo_can_be_uploaded_again(api):
    account, _ = await api.account()
    first = await upload(api, account)
    await api.avatars.delete(account, first.id)
    again = await upload(api, account)
    assert again.id != first.id
    assert await api.avatars.resolve(account, again.id) == again


async def test_only_own_uploads_can_be_deleted(api):
    await api.avatars.seed_public()
    owner, _ = await api.account()
    stranger, _ = await api.account()
    avatar = await upload(api, owner)
    before = api.files()
    assert (await refusal(api.avatars.delete(stranger, avatar.id))).code == "AVATAR_NOT_FOUND"
    error = await refusal(api.avatars.delete(owner, DEFAULT_AVATAR))
    assert (error.status, error.code) == (403, "AVATAR_ACCESS_DENIED")
    # An alias is no avatar of its own.
    alias = "avat_01KMZHXFPBVCXA5ATK85HCP8G1"
    assert (await refusal(api.avatars.delete(owner, alias))).code == "AVATAR_NOT_FOUND"
    assert api.files() == before


async def test_a_deletion_the_media_store_refuses_can_be_repeated(api, monkeypatch):
    account, _ = await api.account()
    avatar = await upload(api, account)
    with monkeypatch.context() as broken:

        async def down(*keys):
            raise OSError("the bucket is away")

        broken.setattr(api.media, "delete", down)
        with pytest.raises(OSError, match="away"):
            await api.avatars.delete(account, avatar.id)
    await api.avatars.delete(account, avatar.id)
    assert api.files() == []


async def test_a_crop_made_while_its_avatar_is_deleted_is_not_left_behind(api, portraits):
    portraits.with_crops = False
    account, _ = await api.account()
    avatar = await upload(api, account)
    await settle(api)
    crop = portraits.crop

    async def slow(photo, ratio):
        await api.avatars.delete(account, avatar.id)
        return await crop(photo, ratio)

    portraits.crop = slow
    assert await api.avatars.portrait(avatar, "1:1") == b"1:1 of photo"
    assert api.files() == []
