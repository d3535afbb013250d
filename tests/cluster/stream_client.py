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
        self._received = b""  # bytes of the connection that are not yet used
        self._chunked = False
        self.status = None
        self.finished = False  # "data: [DONE]" was seen

    async def open(self):
        self._reader, self._writer = await asyncio.open_connection(
            self._url.hostname, self._url.port)
        head = (f"POST {self._path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
                "Content-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(self._body)}\r\n\r\n")
        self._writer.write(head.encode() + self._body)
        await self._writer.drain()
        while b"\r\n\r\n" not in self._received:
            await self._receive()
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").lower().split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self._chunked = "transfer-encoding: chunked" in lines
        if self.status != 200:
            text = self._received or await self._reader.read(65536)
            raise StreamError(f"status {self.status}: {text.decode('utf-8', 'replace')}")

    async def _receive(self):
        """One read for everything that has arrived: these clients share a core with the server."""
        piece = await asyncio.wait_for(self._reader.read(1 << 18), READ_DEADLINE_S)
        if not piece:
            raise StreamError("the connection was closed")
        self._received += piece

    def _take_chunks(self):
        """The content of all complete chunks received so far, and whether the last one was there."""
        if not self._chunked:
            content, self._received = self._received, b""
            return content, False
        content = []
        start = 0
        while (end := self._received.find(b"\r\n", start)) >= 0:
            size = int(self._received[start:end].split(b";")[0], 16)
            if len(self._received) < end + 4 + size:
                break
            content.append(self._received[end + 2:end + 2 + size])
            start = end + 4 + size
            if size == 0:
                return b"".join(content), True
        self._received = self._received[start:]
        return b"".join(content), False

    async def __aiter__(self):
        pending = b""
        is_last = False
        while not is_last:
            content, is_last = self._take_chunks()
            *blocks, pending = (pending + content).split(b"\n\n")
            for block in blocks:
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
            if not is_last:
                await self._receive()
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
