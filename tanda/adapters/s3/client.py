"""The minio SDK as it is used here: without what it does twice, and without what harms."""

from datetime import datetime
from typing import Any

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials

from tanda.settings import Settings

_CONNECT_S = 2.0
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Client(Minio):
    """The SDK; see the two methods."""

    def _abort_multipart_upload(self, bucket_name: str, object_name: str, upload_id: str) -> None:
        """Not when the SDK would: after a completion that failed, it destroyed the completed object.

        (SeaweedFS's issue 10663.)
        """

    def give_up(self, bucket: str, key: str, upload_id: str) -> None:
        """Drops the parts of an upload whose completion was never asked for."""
        super()._abort_multipart_upload(bucket, key, upload_id)

    def _build_headers(
        self, host: str, headers: Any = None, body: bytes | None = None, creds: Credentials | None = None
    ) -> tuple[Any, datetime]:
        """Signs without the body's digest where nobody can be in between: its MD5 is compared afterwards.

        Over plain HTTP the SDK hashes every body for its signature, and the server hashes it again.
        """
        if body is None or creds is None or self._base_url.is_https or not _is_loopback(host):
            return super()._build_headers(host, headers, body, creds)
        headers, date = super()._build_headers(host, headers, None, creds)
        headers |= {"Content-Length": str(len(body)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        return headers, date


def _is_loopback(host: str) -> bool:
    return host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK


def client(settings: Settings, *, read_s: float, connections: int) -> Client:
    pool: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED"} if settings.s3_secure else {}
    return Client(
        settings.s3_endpoint,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key or None,
        secure=settings.s3_secure,
        region=settings.s3_region,
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=read_s),
            maxsize=connections,
            retries=False,
            **pool,
        ),
    )
