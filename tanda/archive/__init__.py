"""The log's own archive: hash-chained, compressed segments in the object store, and what is restored from it.

The log and its archive are on different disks, or at least in different servers. A segment keeps every
message as the log had it; ``docs/adr/0012-the-log-has-an-archive.md`` says why and how.
"""
