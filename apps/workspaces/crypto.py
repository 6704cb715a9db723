"""Seals credentials at rest.

The key is derived from the installation's secret key, so a copied database alone reveals nothing. Former
secret keys (`SECRET_KEY_FALLBACKS`) still open what they sealed; saving again seals with the current one.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.workspaces.errors import ConnectionUnreadable

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet


def seal(fields: dict[str, Any]) -> bytes:
    """Encrypt and authenticate the secret fields of a connection."""
    return _keys().encrypt(json.dumps(fields).encode())


def unseal(sealed: bytes | memoryview) -> dict[str, Any]:
    """The secret fields. Raises ConnectionUnreadable when no known secret key sealed them."""
    from cryptography.fernet import InvalidToken

    try:
        opened: dict[str, Any] = json.loads(_keys().decrypt(bytes(sealed)))
    except InvalidToken as exc:
        raise ConnectionUnreadable(
            "A stored connection cannot be read: it was sealed with another MN_SECRET_KEY.",
            next="Start with the former MN_SECRET_KEY, or save the connection again.",
        ) from exc
    return opened


def _keys() -> MultiFernet:
    from cryptography.fernet import MultiFernet

    return MultiFernet([_fernet(key) for key in [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]])


def _fernet(secret: str | bytes) -> Fernet:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(SHA256(), length=32, salt=None, info=b"mirrorneuron connections").derive(
        secret.encode() if isinstance(secret, str) else secret
    )
    return Fernet(base64.urlsafe_b64encode(derived))
