"""One attempt at each thing that is done with an object; every method is for a thread.

What is put is verified before it counts: by the CRC-32 that the store made of what it got, by its MD5 where
it tells none, and where its answer is no MD5 either (an old store that encrypts, say) by reading everything
back. An object in parts goes by the MD5 of each part.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path
from typing import BinaryIO, cast
from zlib import crc32

from minio.commonconfig import CopySource
from minio.datatypes import Object, Part
from minio.error import S3Error
from minio.helpers import DictType
from urllib3.response import BaseHTTPResponse

from tanda.adapters.s3.client import client
from tanda.contracts.results import BlobRef
from tanda.settings import Settings

#: Pieces of a stream.
PIECE_BYTES = 256 * 1024
#: Copies and the completion of an upload in parts answer only when the server has moved the bytes.
_SLOW_READ_S = 300.0
_NO_UPLOAD = "NoSuchUpload"
#: A store that knows it refuses other bytes, and tells in its answer what it made of those that came. It
#: takes a fifth of an MD5's time.
_CHECKSUM = "x-amz-checksum-crc32"


class Damaged(Exception):
    """Bytes came that are not those that were stored; once may be the wire, twice is the store."""


class WrongDigest(ValueError):
    """The caller named a digest that its own bytes do not have."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the bytes for {key} do not have the digest that was given")


class Objects:
    """The objects of one bucket."""

    def __init__(self, settings: Settings, connections: int) -> None:
        self._bucket = settings.s3_bucket
        self._region = settings.s3_region
        self._quick = client(settings, read_s=max(settings.patience_s, 5.0), connections=connections)
        self._slow = client(settings, read_s=_SLOW_READ_S, connections=connections)

    # -- whole objects

    def put(self, ref: BlobRef, data: bytes | Path, content_type: str) -> None:
        content = data if isinstance(data, bytes) else data.read_bytes()
        if sha256(content).hexdigest() != ref.sha256:
            raise WrongDigest(ref.key)
        self.put_bytes(ref.key, content, content_type)

    def put_bytes(self, key: str, data: bytes | bytearray, content_type: str) -> None:
        checksum = b64encode(crc32(data).to_bytes(4, "big")).decode()
        headers: DictType = {"Content-Type": content_type, _CHECKSUM: checksum}
        put = self._quick._put_object  # pyright: ignore[reportPrivateUsage] - the public one copies the bytes
        done = put(self._bucket, key, cast(bytes, data), headers)
        if done.http_headers.get(_CHECKSUM) != checksum and done.etag != _md5(data).hex():
            self.check(BlobRef(key=key, bytes=len(data), sha256=sha256(data).hexdigest()))

    def check(self, ref: BlobRef) -> None:
        """Reads an object back; it has exactly the bytes that were put, or it raises."""
        self.read(ref, _Nowhere())
        if self.stat(ref.key).size != ref.bytes:
            raise Damaged(ref.key)

    def copy(self, source: str, target: str) -> None:
        self._slow.copy_object(self._bucket, target, CopySource(self._bucket, source))

    def delete(self, key: str) -> None:
        self._quick.remove_object(self._bucket, key)

    def stat(self, key: str) -> Object:
        return self._quick.stat_object(self._bucket, key)

    def below(self, prefix: str) -> Iterable[Object]:
        return self._quick.list_objects(self._bucket, prefix=prefix, recursive=True)

    def open(self, key: str, first: int, length: int) -> BaseHTTPResponse:
        return self._quick.get_object(self._bucket, key, offset=first, length=length)

    def read(self, ref: BlobRef, target: "BinaryIO | _Nowhere") -> None:
        """Copies the bytes; they are those of the digest, or it raises."""
        if ref.bytes == 0:
            self.stat(ref.key)
            return
        digest = sha256()
        length = 0
        response = self.open(ref.key, ref.offset, ref.bytes)
        try:
            while piece := response.read(PIECE_BYTES):
                digest.update(piece)
                length += len(piece)
                target.write(piece)
        finally:
            release(response)
        if length != ref.bytes or digest.hexdigest() != ref.sha256:
            raise Damaged(ref.key)

    # -- objects in parts

    def begin(self, key: str, content_type: str) -> str:
        """The id of a new upload in parts."""
        headers: DictType = {"Content-Type": content_type}
        return self._quick._create_multipart_upload(self._bucket, key, headers)  # pyright: ignore[reportPrivateUsage]

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> tuple[str, bytes]:
        """What the store calls a part, and its MD5 as it was sent."""
        put = self._quick._upload_part  # pyright: ignore[reportPrivateUsage]
        return put(self._bucket, key, data, None, upload_id, number), _md5(data)

    def complete(self, ref: BlobRef, upload_id: str, parts: list[tuple[str, bytes]]) -> None:
        """Makes the object of its parts, in order, and verifies it."""
        named = [Part(number, etag) for number, (etag, _) in enumerate(parts, 1)]
        try:
            self._slow._complete_multipart_upload(self._bucket, ref.key, upload_id, named)  # pyright: ignore[reportPrivateUsage]
        except S3Error as error:
            if error.code != _NO_UPLOAD:
                raise
            # An earlier attempt whose answer was lost may have done it: then the object is there.
        found = self.stat(ref.key)
        of_parts = _md5(b"".join([ours for _, ours in parts])).hex()
        is_ours = all(etag == ours.hex() for etag, ours in parts) and found.etag == f"{of_parts}-{len(parts)}"
        if not is_ours or found.size != ref.bytes:
            self.check(ref)

    def give_up(self, key: str, upload_id: str) -> None:
        self._quick.give_up(self._bucket, key, upload_id)

    def unfinished(self) -> list[tuple[str, str, datetime]]:
        """The uploads in parts that were begun and never completed: key, id, when."""
        found: list[tuple[str, str, datetime]] = []
        key = upload_id = None
        while True:
            listed = self._quick._list_multipart_uploads(  # pyright: ignore[reportPrivateUsage]
                self._bucket, key_marker=key, upload_id_marker=upload_id
            )
            for one in listed.uploads:
                found.append((one.object_name, one.upload_id or "", one.initiated_time or datetime.now(UTC)))
            if not listed.is_truncated:
                return found
            key, upload_id = listed.next_key_marker, listed.next_upload_id_marker

    # -- the bucket

    def ensure_bucket(self) -> None:
        if self._quick.bucket_exists(self._bucket):
            return
        try:
            self._quick.make_bucket(self._bucket, self._region)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


class _Nowhere:
    """A file for bytes that only their digest is wanted of."""

    def write(self, data: bytes, /) -> int:
        return len(data)


def _md5(data: bytes | bytearray) -> bytes:
    return md5(data, usedforsecurity=False).digest()


def release(response: BaseHTTPResponse) -> None:
    """Gives the connection back where the body was read to its end, and closes it elsewhere."""
    response.close()
    response.release_conn()
