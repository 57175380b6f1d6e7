"""AWS Signature Version 4 for one small request, so that the S3 probe needs no SDK."""

import hashlib
import hmac
from datetime import datetime

REGION = "us-east-1"


def signed_headers(
    method: str, host: str, path: str, body: bytes, *, access_key: str, secret_key: str, now: datetime
) -> dict[str, str]:
    """The headers to add. ``path`` is already in its canonical form and has no query; ``now`` is in UTC."""
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    lines = f"host:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{stamp}\n"
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = _mac(_key(secret_key, day), text).hex()
    grant = f"Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"x-amz-date": stamp, "x-amz-content-sha256": digest, "authorization": f"AWS4-HMAC-SHA256 {grant}"}


def _key(secret_key: str, day: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
