"""Pictures and sounds that a request names by an address: a model's process would fetch them from wherever that leads.

    {"type": "image_url", "image_url": {"url": "http://169.254.169.254/..."}}

llama-server (b11434, `handle_media`) asks any address that begins with `http`, from this machine, into any network that
it reaches, and tells by its answer what came: who has nothing but a key would look around where the router stands. So
who has a key sends the bytes themselves (`data:`), and the body is looked at before a model sees it. Files (`file://`)
are llama-server's own to refuse: it reads none but in the `--media-path` of the operator.
"""

from __future__ import annotations

import enum
import re
from typing import Any

import msgspec

from llamarouter.core.errors import InvalidJson, RemoteMediaForbidden

# Where an address of media stands in an object with a `type`: of OpenAI's chat and responses, and of Anthropic's
# messages. The value is the address, or an object that has it.
_PLACES = ("image_url", "input_image", "input_audio", "audio_url", "input_video", "video_url", "source", "file_url")
_INSIDE = ("url", "data")
# What no text without such an address has: one at the beginning of a string, or letters of one behind escapes.
PLAIN = b'"http'
ESCAPE = b"\\u00"
_ESCAPED = re.compile(rb"\\u00(?:68|70|74)")  # h, p, t
_HOW = "send the bytes as a data: URL (the operator may allow addresses: --remote-media)"


class RemoteMedia(enum.Enum):
    """Whose requests may name media by their address."""

    EVERYBODYS = "everybody's"
    KEYLESS = "those without a key, where none is needed"
    NOBODYS = "nobody's"


def check_media(body: bytes) -> None:
    """Raise `RemoteMediaForbidden` where the JSON body has media that llama-server would fetch.

    Nearly every body costs two searches; one with an address at the beginning of some string is decoded.
    """
    if body.find(PLAIN) < 0 and (body.find(ESCAPE) < 0 or _ESCAPED.search(body) is None):
        return
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from error
    if _names_media(content):
        raise RemoteMediaForbidden(f"the request names media by an address on the network: {_HOW}")


def _names_media(content: Any) -> bool:
    """Without recursion: a body may be as deep as it may be."""
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            if isinstance(value.get("type"), str) and any(_is_fetched(value.get(place)) for place in _PLACES):
                return True
            left += value.values()
    return False


def _is_fetched(media: Any) -> bool:
    if isinstance(media, dict):
        return any(_is_address(media.get(key)) for key in _INSIDE)
    return _is_address(media)


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value[:4].lower() == "http"
