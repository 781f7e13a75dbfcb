"""A chunked body (RFC 9112, 7.1), read piece by piece as it comes from a child.

Whole chunks in one read, which is how tokens come, take a short way; everything else goes line by line.
"""

from __future__ import annotations

from llamarouter.core.wire import BrokenAnswerError

# The size lines of chunks below 4 KiB as llama-server writes them: looked up, they cost a tenth of a checked int().
_SIZES = {b"%x" % size: size for size in range(1, 4096)}


class ChunkReader:
    """The payload of a chunked body, fed piece by piece; strict, and it never reads behind the end.

    `done` is true when the last chunk and its trailers (which are dropped) have been read; `rest` is what came behind.
    """

    __slots__ = ("_line", "_missing", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._line = b""  # the beginning of a line that is not whole yet
        self._missing = 0  # bytes of the current chunk that are still to come, its CRLF included
        self._trailers = False

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`; raises `BrokenAnswerError` where the framing is wrong."""
        if self._missing or self._line or self._trailers:
            return self._feed_slowly(data, 0, [])
        payload: list[bytes] = []
        at = 0
        while True:
            line_end = data.find(b"\r\n", at, at + 8)
            size = _SIZES.get(data[at:line_end]) if line_end > 0 else None
            if size is None:
                return self._feed_slowly(data, at, payload)
            start = line_end + 2
            end = start + size
            if not data.startswith(b"\r\n", end):
                return self._feed_slowly(data, at, payload)
            if end + 2 == len(data):
                return data[start:end] if not payload else b"".join((*payload, data[start:end]))
            payload.append(data[start:end])
            at = end + 2

    def _feed_slowly(self, data: bytes, at: int, payload: list[bytes]) -> bytes:
        """From `at` on; `payload`: what stands before."""
        while at < len(data) and not self.done:
            at = self._take_chunk(data, at, payload) if self._missing else self._take_line(data, at)
        self.rest = data[at:]
        return b"".join(payload)

    def _take_chunk(self, data: bytes, at: int, payload: list[bytes]) -> int:
        """Take what `data` has of the current chunk and of the CRLF behind it; where to go on."""
        end = min(len(data), at + self._missing)
        behind = self._missing - (end - at)  # missing after this
        text_end = end - max(0, 2 - behind)
        if text_end > at:
            payload.append(data[at:text_end])
        crlf = data[max(at, text_end) : end]
        # How much of the CRLF was still to come before this read says which part of it this must be.
        first = 2 - min(2, self._missing)
        if crlf != b"\r\n"[first : first + len(crlf)]:
            raise BrokenAnswerError("a chunk does not end where it says")
        self._missing = behind
        return end

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        if end < 0:
            self._line += data[at:]
            if len(self._line) > 4096:
                raise BrokenAnswerError("a chunk's size line is too long")
            return len(data)
        line = self._line + data[at : end + 1]
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise BrokenAnswerError("a chunk's size line does not end in CRLF")
        if self._trailers:
            self.done = line == b"\r\n"
        else:
            size = _chunk_size(line[:-2])
            self._trailers = size == 0
            self._missing = size + 2 if size else 0
        return end + 1


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip(b" \t") if b";" in line else line
    # What int() would take as well: signs, blanks and underscores are not alphanumeric, and `0x` is a prefix.
    if not digits.isalnum() or len(digits) > 15 or digits[1:2] in (b"x", b"X"):
        raise BrokenAnswerError("a chunk's size is not a number")
    try:
        return int(digits, 16)
    except ValueError:
        raise BrokenAnswerError("a chunk's size is not a number") from None
