"""Accounts and their keys."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from api.records import Account, ApiKey
from api.store.engine import Database
from api.store.rows import (
    KEY_COLUMNS,
    as_account,
    as_key,
    select_accounts,
    select_keys,
)
from api.store.tables import accounts, api_keys

_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 32

_KEY_AND_ACCOUNT = (
    select(*KEY_COLUMNS, *accounts.c, api_keys.c.digest)
    .join_from(api_keys, accounts)
    .where(api_keys.c.digest == bindparam("digest"))
)
_BY_ID = select_accounts.where(accounts.c.id == bindparam("account_id"))
_KEY_NAMES = tuple(column.name for column in KEY_COLUMNS)
_ACCOUNT_NAMES = tuple(column.name for column in accounts.c)


def _digest(text: str) -> bytes:
    # The text has 190 random bits: there is nothing a slow hash would protect.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class AccountTables:
    """The store's part for accounts and keys."""

    _database: Database

    async def create_account(
        self, name: str, plan_key: str, now: datetime, anchor_day: int | None = None
    ) -> Account:
        """A new account.

        Raises:
            ValueError: the name is empty or taken, or the anchor day is not 1-28.
        """
        if not name.strip():
            raise ValueError("an account needs a name")
        if anchor_day is not None and not 1 <= anchor_day <= 28:
            raise ValueError(f"anchor day {anchor_day} is not in every month; give 1 to 28")
        account = Account(f"acct_{ULID.from_datetime(now)}", name, plan_key, now, anchor_day)
        try:
            await self._database.change(insert(accounts), vars(account))
        except IntegrityError:
            raise ValueError(f"there is an account named {name!r} already") from None
        return account

    async def account(self, account_id: str) -> Account | None:
        """By id."""
        row = await self._database.row(_BY_ID, {"account_id": account_id})
        return None if row is None else as_account(row)

    async def account_named(self, name: str) -> Account | None:
        """By name."""
        query = select_accounts.where(accounts.c.name == name)
        row = await self._database.row(query)
        return None if row is None else as_account(row)

    async def accounts(self) -> Sequence[Account]:
        """All, oldest first."""
        query = select_accounts.order_by(accounts.c.created_at, accounts.c.id)
        rows = await self._database.rows(query)
        return [as_account(row) for row in rows]

    async def create_key(
        self,
        account_id: str,
        name: str,
        now: datetime,
        *,
        test: bool = False,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret text, which is stored nowhere: ``ah_live_`` or ``ah_test_`` and
        32 random characters. Raises ``ValueError`` when there is no such account."""
        random = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARACTERS))
        text = ("ah_test_" if test else "ah_live_") + random
        key = ApiKey(
            id=f"key_{ULID.from_datetime(now)}",
            account_id=account_id,
            name=name,
            hint=f"{text[:10]}…{text[-4:]}",
            created_at=now,
            expires_at=expires_at,
        )
        try:
            await self._database.change(insert(api_keys), {**vars(key), "digest": _digest(text)})
        except IntegrityError:
            raise ValueError(f"there is no account {account_id!r}") from None
        return key, text

    async def find_key(self, text: str) -> tuple[ApiKey, Account] | None:
        """The key with this secret text, revoked and expired ones too.

        It is found by the digest of the text, so the time the index takes tells nothing of it; the
        last word has a comparison in constant time.
        """
        digest = _digest(text)
        row = await self._database.row(_KEY_AND_ACCOUNT, {"digest": digest})
        if row is None or not hmac.compare_digest(row[-1], digest):
            return None
        key = ApiKey(**dict(zip(_KEY_NAMES, row, strict=False)))
        return key, Account(**dict(zip(_ACCOUNT_NAMES, row[len(_KEY_NAMES) :], strict=False)))

    async def keys(self, account_id: str) -> Sequence[ApiKey]:
        """An account's keys, oldest first."""
        query = select_keys.where(api_keys.c.account_id == account_id)
        query = query.order_by(api_keys.c.created_at, api_keys.c.id)
        rows = await self._database.rows(query)
        return [as_key(row) for row in rows]

    async def revoke_key(self, key_id: str, now: datetime) -> bool:
        """From now on the key is refused; a second time changes nothing. False: no such key."""

        def work(connection: Connection) -> bool:
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now)
            )
            found = connection.execute(select(api_keys.c.id).where(api_keys.c.id == key_id))
            return found.first() is not None

        return await self._database.write(work)
