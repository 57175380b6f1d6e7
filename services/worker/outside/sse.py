"""Server-sent events as a provider streams them: the data of each, from bytes cut anywhere."""

from collections.abc import AsyncIterator


async def event_data(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event that is complete; names, ids and comments are left out.

    Lines end as providers end them, with a line feed, a carriage return before it or not. An event
    that the stream breaks off in is none, as the standard says.
    """
    data: list[bytes] = []
    async for line in _lines(pieces):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Complete lines without their ends."""
    rest: list[bytes] = []
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        rest.append(first)
        for line in others:
            yield b"".join(rest).removesuffix(b"\r")
            rest = [line]
