from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from api.store.port import AvatarLimitReached
from api.store.sql import SqlStore
from tests.api.store.rows import NOON, account_in, later, new_avatar, plan


async def test_an_avatar_is_found_by_id_and_by_its_bytes(store: SqlStore) -> None:
    account, other = await account_in(store), await account_in(store)
    avatar = new_avatar(account)
    assert await store.add_avatar(avatar, plan(), NOON) == avatar

    assert await store.avatar(avatar.id) == avatar
    assert await store.avatar_with_digest(account.id, avatar.digest) == avatar
    assert await store.avatar_with_digest(other.id, avatar.digest) is None
    assert await store.avatar("avat_none") is None
    assert await store.avatar("avat_\0\ud800") is None


async def test_avatars_are_listed_newest_first(store: SqlStore) -> None:
    account, other = await account_in(store), await account_in(store)
    first = await store.add_avatar(new_avatar(account), plan(), NOON)
    second = await store.add_avatar(new_avatar(account, later(seconds=1)), plan(), NOON)
    public = await store.add_avatar(new_avatar(None, id="PUBLIC/Avatars/one"), plan(), NOON)

    assert await store.avatars_of(account.id) == [second, first]
    assert await store.avatars_of(other.id) == []
    assert await store.avatars_of(None) == [public]


async def test_the_same_bytes_are_the_same_avatar_and_cost_nothing(store: SqlStore) -> None:
    account = await account_in(store)
    first = await store.add_avatar(new_avatar(account), plan(avatars=1), NOON)
    again = new_avatar(account, digest=first.digest)
    assert await store.add_avatar(again, plan(avatars=1), NOON) == first
    assert (await store.usage(account, plan(), NOON)).avatars_used == 1


async def test_deleted_avatars_are_gone_but_count_in_their_period(store: SqlStore) -> None:
    account = await account_in(store)
    avatar = await store.add_avatar(new_avatar(account), plan(avatars=1), NOON)

    assert await store.delete_avatar(avatar.id, later(hours=1))
    assert not await store.delete_avatar(avatar.id, later(hours=2))
    assert await store.avatar(avatar.id) is None
    assert await store.avatars_of(account.id) == []
    assert await store.avatar_with_digest(account.id, avatar.digest) is None
    with pytest.raises(AvatarLimitReached) as reached:
        await store.add_avatar(new_avatar(account), plan(avatars=1), later(hours=3))
    assert (reached.value.limit, reached.value.used) == (1, 1)

    april = datetime(2026, 4, 1, tzinfo=UTC)
    await store.add_avatar(new_avatar(account, april, digest=avatar.digest), plan(avatars=1), april)


async def test_parallel_uploads_do_not_pass_the_limit(stores: list[SqlStore]) -> None:
    account = await account_in(stores[0])

    async def add(number: int) -> bool:
        try:
            await stores[number % 2].add_avatar(new_avatar(account), plan(avatars=3), NOON)
        except AvatarLimitReached:
            return False
        return True

    assert sum(await asyncio.gather(*(add(number) for number in range(12)))) == 3
    assert len(await stores[0].avatars_of(account.id)) == 3


async def test_an_unlimited_plan_and_a_plan_of_none(store: SqlStore) -> None:
    account = await account_in(store)
    await store.add_avatar(new_avatar(account), plan(avatars=None), NOON)
    with pytest.raises(AvatarLimitReached):
        await store.add_avatar(new_avatar(account), plan(avatars=0), NOON)


async def test_a_public_avatar_is_replaced_by_its_id(stores: list[SqlStore]) -> None:
    old = new_avatar(None, id="PUBLIC/Avatars/anna")
    await asyncio.gather(*(store.add_avatar(old, plan(), NOON) for store in stores * 3))
    await stores[0].delete_avatar(old.id, NOON)

    new = new_avatar(None, later(days=1), id="PUBLIC/Avatars/anna")
    await stores[0].add_avatar(new, plan(), NOON)
    assert await stores[1].avatars_of(None) == [new]


async def test_a_preview_link_works_once(stores: list[SqlStore]) -> None:
    account = await account_in(stores[0])
    await stores[0].create_preview("lnk_1", account.id, "avat_1", later(minutes=5))

    uses = await asyncio.gather(
        *(store.use_preview("lnk_1", later(minutes=1)) for store in stores * 4)
    )
    assert sorted(uses, key=str) == [(account.id, "avat_1")] + [None] * 7


async def test_a_preview_link_is_looked_at_and_taken_back(store: SqlStore) -> None:
    account = await account_in(store)
    await store.create_preview("lnk_1", account.id, "avat_1", later(minutes=5))
    for _ in range(2):
        assert await store.preview("lnk_1", NOON) == (account.id, "avat_1")
    await store.use_preview("lnk_1", NOON)
    assert await store.preview("lnk_1", NOON) is None
    await store.return_preview("lnk_1")
    assert await store.use_preview("lnk_1", later(minutes=4)) == (account.id, "avat_1")


async def test_a_preview_link_expires(store: SqlStore) -> None:
    account = await account_in(store)
    await store.create_preview("lnk_1", account.id, "avat_1", later(minutes=5))
    assert await store.use_preview("lnk_1", later(minutes=5)) is None
    assert await store.preview("lnk_1", later(minutes=5)) is None
    assert await store.use_preview("lnk_none", NOON) is None


async def test_links_long_expired_are_forgotten(store: SqlStore) -> None:
    account = await account_in(store)
    await store.create_preview("lnk_1", account.id, "avat_1", later(minutes=5))
    await store.create_preview("lnk_2", account.id, "avat_1", later(days=2))
    # Not even at the time it was made for.
    assert await store.use_preview("lnk_1", NOON) is None
