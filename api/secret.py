"""The installation's secret: one random text from which every other secret is derived.

Session tokens are derived, not stored, so that a repeated create can be answered with the same
token although the database holds only its digest.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from api.settings import PREFIX, ApiSettings, SettingsError

TOKEN_PREFIX = "session_token_"


class Secret:
    """Derives tokens and signatures. Each purpose has a key of its own."""

    def __init__(self, text: str) -> None:
        """``text``: at least 32 characters."""
        self._root = text.encode()

    def __repr__(self) -> str:
        return "Secret(***)"

    def key(self, purpose: str) -> bytes:
        """32 bytes for one purpose: HMAC-SHA256 of its name."""
        return hmac.digest(self._root, purpose.encode(), "sha256")

    def session_token(self, session_id: str) -> str:
        """The session's token: ``session_token_`` and 43 URL-safe characters."""
        digest = hmac.digest(self.key("session token"), session_id.encode(), "sha256")
        return TOKEN_PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def sign(self, purpose: str, text: str) -> str:
        """A signature of ``text`` for ``purpose``: 43 URL-safe characters."""
        digest = hmac.digest(self.key(purpose), text.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def verify(self, purpose: str, text: str, signature: str) -> bool:
        """Whether ``signature`` is that of ``text``; takes the same time for every wrong one."""
        return hmac.compare_digest(
            self.sign(purpose, text).encode(), signature.encode("utf-8", "surrogatepass")
        )


def token_digest(token: str) -> bytes:
    """What is stored of a token: its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def load_secret(settings: ApiSettings) -> Secret:
    """The secret the settings give, or the one kept in ``data_dir/secret``, made on first use.

    Raises:
        SettingsError: the file cannot be read or written, or is too short.
    """
    if settings.secret is not None:
        return Secret(settings.secret.get_secret_value())
    path = settings.data_dir / "secret"
    try:
        text = _kept(path)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be used ({error.strerror}); set {PREFIX}SECRET, or {PREFIX}DATA_DIR to"
            " a folder that can be written"
        ) from error
    if len(text) < 32:
        raise SettingsError(f"{path} holds fewer than 32 characters; restore it or delete it")
    return Secret(text)


def _kept(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))
            # Whole or not at all, and the first of several processes wins.
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        return path.read_text().strip()
    finally:
        draft.unlink(missing_ok=True)
