"""The token of a callback: names its file, and holds a secret of which the log has only the digest.

It is all that a remote service needs to confirm a file, so it is told to that service alone and never
logged. The gateway finds the file in it and compares the digest with the file's ``FileWaiting``.
"""

import base64
import binascii
import hmac
from hashlib import sha256

import msgspec

from tanda.contracts import ids
from tanda.contracts.subjects import is_tenant

#: A token is some 150 characters; what is longer is none of ours.
TOKEN_CHARS_MAX = 512


class Named(msgspec.Struct, frozen=True):
    """The attempt that a token is for."""

    tenant: str
    batch_id: str
    file_id: str
    attempt: int


def make_token(named: Named, secret: str) -> str:
    """The token of an attempt; ``secret`` is from the system's own randomness."""
    text = ".".join((named.tenant, named.batch_id, named.file_id, str(named.attempt), secret))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_token(token: str) -> Named | None:
    """What a token is for; None for a text that is no token. Says nothing of its secret."""
    if not token.isascii() or len(token) > TOKEN_CHARS_MAX:
        return None
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    parts = text.split(".")
    if len(parts) != 5 or not is_tenant(parts[0]) or not parts[3].isdecimal():
        return None
    if not (ids.is_id(parts[1], ids.BATCH) and ids.is_id(parts[2], ids.FILE)):
        return None
    return Named(parts[0], parts[1], parts[2], int(parts[3][:9]))


def token_sha256(token: str) -> str:
    """What the log holds of a token."""
    return sha256(token.encode()).hexdigest()


def is_token_of(token: str, digest: str) -> bool:
    """Whether a token is the one of a digest, in constant time."""
    return hmac.compare_digest(token_sha256(token), digest)
