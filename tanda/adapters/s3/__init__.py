"""The object store over S3."""

from tanda.adapters.s3.blobs import S3Blobs

__all__ = ["S3Blobs"]
