"""Signed addresses of ``local`` rooms: anyone who has the link may watch, nobody else, until it
expires."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from api.secret import Secret
from api.settings import ApiSettings

AFTERTIME = timedelta(minutes=10)
"""Links outlive the session by this, so that a late viewer is told that it has ended."""

UNLIMITED_TTL = timedelta(hours=24)
"""How long the links of a session without expiry work."""

_EXP = re.compile(r"[0-9]{1,12}")


class WatchLinks:
    """Makes and checks them. Nothing is stored: the signature says all."""

    def __init__(self, secret: Secret, settings: ApiSettings) -> None:
        """``settings`` name the address clients reach us at."""
        self._secret = secret
        self._base = settings.base_url

    def urls(self, session_id: str, expires_at: datetime | None, now: datetime) -> dict[str, str]:
        """``whep_url`` (for players) and ``watch_url`` (a page) of a session; they work until
        shortly after the session expires."""
        until = expires_at + AFTERTIME if expires_at else now + UNLIMITED_TTL
        exp = str(int(until.timestamp()))
        tail = f"{quote(session_id, safe='')}?{self.query(session_id, exp)}"
        return {
            "whep_url": f"{self._base}/whep/{tail}",
            "watch_url": f"{self._base}/watch/{tail}",
        }

    def query(self, session_id: str, exp: str) -> str:
        """The query that opens a session's addresses until ``exp`` (Unix seconds)."""
        return urlencode({"exp": exp, "sig": self._secret.sign("watch", _signed(session_id, exp))})

    def check(self, session_id: str, exp: str | None, sig: str | None, now: datetime) -> bool:
        """Whether the query ``exp`` and ``sig`` opens the session now."""
        if exp is None or sig is None or not _EXP.fullmatch(exp):
            return False
        genuine = self._secret.verify("watch", _signed(session_id, exp), sig)
        return genuine and now.timestamp() < int(exp)


def _signed(session_id: str, exp: str) -> str:
    return f"{exp}\n{session_id}"
