"""Certificates are loaded where they are needed: it takes 40 ms of CPU, more than any request."""

import ssl
from typing import Final

#: Trusts nobody: whatever is asked over TLS with it fails.
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def verify_for(url: str) -> ssl.SSLContext | bool:
    """What an HTTP client for this address takes as ``verify``; it must not follow a redirect to HTTPS."""
    return True if url.lower().startswith("https:") else _NO_TLS
