"""A small asyncio client of the streaming endpoints: many streams at once, each easy to cut off."""

import asyncio
import json
import time
import urllib.parse

READ_DEADLINE_S = 120  # longest silence within a stream; above every restart of a group


class StreamError(Exception):
    """The stream did not go as the protocol says, or the server sent an error."""


class Stream:
    """One POST with stream = true. Read it with `async for event in stream`."""

    def __init__(self, url, path, body):
        self._url = urllib.parse.urlsplit(url)
        self._path = path
        self._body = json.dumps({**body, "stream": True}).encode()
        self._reader = None
        self._writer = None
        self.status = None
        self.finished = False  # "data: [DONE]" was seen

    async def open(self):
        self._reader, self._writer = await asyncio.open_connection(
            self._url.hostname, self._url.port, limit=1 << 20)
        head = (f"POST {self._path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
                "Content-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(self._body)}\r\n\r\n")
        self._writer.write(head.encode() + self._body)
        await self._writer.drain()
        status_line = await self._line()
        self.status = int(status_line.split(" ")[1])
        chunked = False
        while line := await self._line():
            name, _, value = line.partition(":")
            if name.lower() == "transfer-encoding":
                chunked = value.strip().lower() == "chunked"
        if self.status != 200:
            rest = await self._timed(self._reader.read(65536))
            raise StreamError(f"status {self.status}: {rest.decode('utf-8', 'replace')}")
        self._chunked = chunked

    async def _timed(self, operation):
        return await asyncio.wait_for(operation, READ_DEADLINE_S)

    async def _line(self):
        line = await self._timed(self._reader.readline())
        if not line:
            raise StreamError("connection closed")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    async def _pieces(self):
        """The body as it arrives."""
        if not self._chunked:
            while piece := await self._timed(self._reader.read(65536)):
                yield piece
            return
        while True:
            size = int((await self._line()).split(";")[0], 16)
            piece = await self._timed(self._reader.readexactly(size + 2))
            if size == 0:
                return
            yield piece[:-2]

    async def __aiter__(self):
        pending = b""
        try:
            async for piece in self._pieces():
                pending += piece
                while b"\n\n" in pending:
                    block, pending = pending.split(b"\n\n", 1)
                    for line in block.split(b"\n"):
                        if not line.startswith(b"data:"):
                            continue  # a comment that keeps the connection alive
                        data = line[5:].strip()
                        if data == b"[DONE]":
                            self.finished = True
                            return
                        event = json.loads(data)
                        if "error" in event:
                            raise StreamError(f"error event: {event['error']}")
                        yield event
        except asyncio.IncompleteReadError as error:
            raise StreamError("the connection was cut off") from error
        raise StreamError("the stream ended without [DONE]")

    def cut_off(self):
        """Closes the connection without a goodbye, as a client that crashes."""
        if self._writer is not None:
            self._writer.transport.abort()


class Recording:
    """What one completion stream said, and when."""

    def __init__(self):
        self.text = ""
        self.finish_reason = None
        self.usage = None
        self.times = []  # time.monotonic() of each event with text


async def record_completion(url, body, recording):
    """Runs a /v1/completions stream to its end; `recording` fills while it runs."""
    stream = Stream(url, "/v1/completions", {**body, "stream_options": {"include_usage": True}})
    try:
        await stream.open()
        async for event in stream:
            for choice in event.get("choices", ()):
                if choice.get("text"):
                    recording.text += choice["text"]
                    recording.times.append(time.monotonic())
                recording.finish_reason = choice.get("finish_reason") or recording.finish_reason
            recording.usage = event.get("usage") or recording.usage
    finally:
        stream.cut_off()
    return recording
