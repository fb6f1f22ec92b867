"""Avatars and preview links."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from api.records import Avatar, Plan
from api.store.engine import Database, is_sqlite
from api.store.periods import billing_period
from api.store.port import AvatarLimitReached
from api.store.rows import as_avatar, lock_account, select_avatars
from api.store.tables import avatars, preview_links

_OLD_LINK = timedelta(days=1)

_BY_ID = select_avatars.where(
    avatars.c.id == bindparam("avatar_id"), avatars.c.deleted_at.is_(None)
)
_MADE = (
    select(func.count())
    .select_from(avatars)
    .where(
        avatars.c.account_id == bindparam("account_id"),
        avatars.c.created_at >= bindparam("start"),
        avatars.c.created_at < bindparam("end"),
    )
)


class AvatarTables:
    """The store's part for avatars and preview links."""

    _database: Database

    async def add_avatar(self, avatar: Avatar, plan: Plan, now: datetime) -> Avatar:
        """Store it, if the plan's number for this period allows, atomically. The same digest for
        the same account returns the avatar there is. A public avatar replaces the one with its id.

        Raises:
            AvatarLimitReached: deleted avatars of the period count, too.
            ValueError: there is no such account.
        """
        if avatar.account_id is None:
            return await self._add_public(avatar)
        owner: str = avatar.account_id

        def work(connection: Connection) -> Avatar:
            account = lock_account(connection, owner)
            if account is None:
                raise ValueError(f"there is no account {owner!r}")
            query = _with_digest(owner, avatar.digest)
            row = connection.execute(query).first()
            if row is not None:
                return as_avatar(row)
            if plan.avatars_per_cycle is not None:
                used = avatars_made(connection, account.id, account.anchor_day, now)
                if used >= plan.avatars_per_cycle:
                    raise AvatarLimitReached(plan.avatars_per_cycle, used)
            connection.execute(insert(avatars), vars(avatar))
            return avatar

        return await self._database.write(work)

    async def _add_public(self, avatar: Avatar) -> Avatar:
        dialect = sqlite if is_sqlite(self._database.url) else postgresql
        statement = dialect.insert(avatars).values(**vars(avatar))
        changed = {name: statement.excluded[name] for name in vars(avatar) if name != "id"}
        statement = statement.on_conflict_do_update(
            index_elements=[avatars.c.id], set_=changed, where=avatars.c.account_id.is_(None)
        )
        await self._database.change(statement)
        return avatar

    async def avatar(self, avatar_id: str) -> Avatar | None:
        """By id; deleted ones are None."""
        row = await self._database.row(_BY_ID, {"avatar_id": avatar_id})
        return None if row is None else as_avatar(row)

    async def avatar_with_digest(self, account_id: str, digest: str) -> Avatar | None:
        """The account's avatar made of the same bytes."""
        row = await self._database.row(_with_digest(account_id, digest))
        return None if row is None else as_avatar(row)

    async def avatars_of(self, account_id: str | None) -> Sequence[Avatar]:
        """An account's avatars, or the public ones, newest first."""
        query = (
            select_avatars.where(avatars.c.account_id == account_id, avatars.c.deleted_at.is_(None))
            if account_id is not None
            else select_avatars.where(
                avatars.c.account_id.is_(None), avatars.c.deleted_at.is_(None)
            )
        )
        rows = await self._database.rows(
            query.order_by(avatars.c.created_at.desc(), avatars.c.id.desc())
        )
        return [as_avatar(row) for row in rows]

    async def delete_avatar(self, avatar_id: str, now: datetime) -> bool:
        """From now on nobody finds it; running sessions keep theirs. False: no such avatar."""
        statement = (
            update(avatars)
            .where(avatars.c.id == avatar_id, avatars.c.deleted_at.is_(None))
            .values(deleted_at=now)
        )
        return await self._database.change(statement) == 1

    async def create_preview(
        self, link_id: str, account_id: str, avatar_id: str, expires_at: datetime
    ) -> None:
        """A link that works once. Links long expired are forgotten."""

        def work(connection: Connection) -> None:
            connection.execute(
                delete(preview_links).where(preview_links.c.expires_at < expires_at - _OLD_LINK)
            )
            connection.execute(
                insert(preview_links),
                {
                    "id": link_id,
                    "account_id": account_id,
                    "avatar_id": avatar_id,
                    "expires_at": expires_at,
                },
            )

        await self._database.write(work)

    async def preview(self, link_id: str, now: datetime) -> tuple[str, str] | None:
        """Account id and avatar id; None when it is unknown, used or expired. Only looks."""
        statement = select(preview_links.c.account_id, preview_links.c.avatar_id).where(
            preview_links.c.id == link_id,
            preview_links.c.used_at.is_(None),
            preview_links.c.expires_at > now,
        )
        row = await self._database.row(statement)
        return None if row is None else (row.account_id, row.avatar_id)

    async def use_preview(self, link_id: str, now: datetime) -> tuple[str, str] | None:
        """The same, and marks it used: of several callers at once, one gets it."""
        statement = (
            update(preview_links)
            .where(
                preview_links.c.id == link_id,
                preview_links.c.used_at.is_(None),
                preview_links.c.expires_at > now,
            )
            .values(used_at=now)
            .returning(preview_links.c.account_id, preview_links.c.avatar_id)
        )
        row = await self._database.write(lambda connection: connection.execute(statement).first())
        return None if row is None else (row.account_id, row.avatar_id)

    async def return_preview(self, link_id: str) -> None:
        """It was used in vain (no worker was free, say): until it expires it works again."""
        statement = update(preview_links).where(preview_links.c.id == link_id).values(used_at=None)
        await self._database.change(statement)


def avatars_made(
    connection: Connection, account_id: str, anchor_day: int | None, now: datetime
) -> int:
    """How many avatars the account made in the period ``now`` is in, deleted ones included."""
    start, end = billing_period(anchor_day, now)
    period = {"account_id": account_id, "start": start, "end": end}
    return int(connection.execute(_MADE, period).scalar_one())


def _with_digest(account_id: str, digest: str) -> Select[Any]:
    return (
        select_avatars.where(
            avatars.c.account_id == account_id,
            avatars.c.digest == digest,
            avatars.c.deleted_at.is_(None),
        )
        .order_by(avatars.c.created_at)
        .limit(1)
    )
