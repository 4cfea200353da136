"""Takes shoppers out of a record before it is published as a late event or dead letter.

A refused record need not keep to the contract, so it is asked what may stay, not what must go:

    a JSON object   names; numbers and texts where the contract has such, but for `user_id`, and
                    for texts that quote one
    broken JSON     what stands before the first name that is `user_id`'s or nobody's
    anything else   nothing
    the key         if the value itself says that it is its SKU
    headers         names; contents of those in HEADERS_KEPT

What goes is replaced by `p-` and 128 bits of HMAC-SHA256 under FLASHCAST_PSEUDONYM_KEY, the same
for the same shopper wherever it stands, or by `redacted` when there is no key. The record itself
still lies where the dead letter says, in the input topic.
"""

import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from pydantic import SecretStr

from streams.codec.strict import CONTRACT_NAMES, NESTING_MAX, VALUE_BYTES_MAX, nesting

REDACTED: Final = b"redacted"
TEXTS: Final = frozenset(
    ("event_id", "session_id", "order_id", "region", "sku", "title", "category", "competitor")
)
HEADERS_KEPT: Final = frozenset(
    ("traceparent", "content-type", "ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time")
)
NAMES_KEPT: Final = frozenset(name.encode() for name in CONTRACT_NAMES if "user" not in name)
_DIGEST_BYTES: Final = 16
_NOBODY: Final = (b"null", b"true", b"false", b'""')
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_COLON: Final = re.compile(rb"\s*:\s*")
_SCALAR: Final = re.compile(rb"[^\s,\]}]+")
_QUOTES_USER: Final = re.compile(r"user[\W_]*id|\\u", re.IGNORECASE)  # \u: a name still escaped
_PERHAPS_USER: Final = re.compile(rb"user|\\u", re.IGNORECASE)
_TEXT: Final = msgspec.json.Decoder(str)
_BROKEN: Final = re.compile(rb"""[^\s"'{},:=\[\]]++|[:=]""")
_BROKEN_BYTES_MAX: Final = 131_072  # as much as FLASHCAST_DEAD_LETTER_BYTES_MAX can ask for

Headers = Sequence[tuple[str, bytes | None]]


class Disguised(NamedTuple):
    """Key and value fit to be published. `whole` False: something could not be told apart from a
    shopper and was left out with what came after it.
    """

    key: bytes | None
    value: bytes | None
    whole: bool


class _Span(NamedTuple):
    begin: int
    end: int
    told: bytes  # what stands there, without JSON's quotes and escapes


class Pseudonyms:
    """Of one deployment: the same key in every worker, and wherever `reconcile` runs."""

    def __init__(self, key: SecretStr | None) -> None:
        self._key = None if key is None else key.get_secret_value().encode()

    def of(self, told: bytes) -> bytes:
        """What stands in the place of `told`."""
        if self._key is None:
            return REDACTED
        digest = hmac.digest(self._key, told, "sha256")
        return b"p-" + digest[:_DIGEST_BYTES].hex().encode()

    def record(self, key: bytes | None, value: bytes | None) -> Disguised:
        """Key and value of a refused record."""
        parsed = _object(value)
        if value is None:
            shown, whole = None, True
        elif parsed is None:
            shown, whole = self._head(value)
        else:
            shown, whole = self._replaced(value), True
        if key and not (_is_sku(key, parsed) or _is_sku_in(key, shown or b"")):
            key = self.of(key)
        return Disguised(key, shown, whole)

    def headers(self, headers: Headers) -> list[tuple[str, bytes | None]]:
        """Headers of a refused record, one at a time: names stay, most contents do not."""
        return [
            (name, self.of(content) if content and name not in HEADERS_KEPT else content)
            for name, content in headers
        ]

    def _replaced(self, value: bytes) -> bytes:
        """A JSON object with everything that speaks of a shopper replaced."""
        parts, at = [], 0
        for span in _spans(value):
            parts += [value[at : span.begin], b'"', self.of(span.told), b'"']
            at = span.end
        return b"".join([*parts, value[at:]])

    def _head(self, value: bytes) -> tuple[bytes, bool]:
        """What can be shown of a value that is no JSON object, and whether that is all of it."""
        end = _safe_end(value)
        if end == len(value):
            return value, True
        return value[:end] + self.of(value[end:]), False


def _object(value: bytes | None) -> dict[str, object] | None:
    """The value, if it is a JSON object that the contract's decoder would read."""
    if value is None or len(value) > VALUE_BYTES_MAX or nesting(value) > NESTING_MAX:
        return None
    try:
        parsed = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _text(token: bytes) -> str:
    """A JSON text without its quotes and escapes."""
    return _TEXT.decode(token)


def _spans(value: bytes) -> Iterator[_Span]:
    """The places in a JSON object that are to be replaced: values of its members."""
    at = value.index(b"{") + 1
    while (name := _TOKEN.search(value, at)) is not None and name[0] != b"}":
        colon = _COLON.match(value, name.end())
        assert colon is not None, "an object that was decoded has names with values"
        begin, at = colon.end(), _value_end(value, colon.end())
        if _goes(_text(name[0]), value[begin:at]):
            yield _Span(begin, at, _told(value[begin:at]))


def _goes(name: str, told: bytes) -> bool:
    """Whether a member's value, as it stands, could speak of a shopper."""
    if told in _NOBODY:
        return False
    if name not in CONTRACT_NAMES or "user" in name or told.startswith((b"{", b"[")):
        return True
    if told.startswith(b'"'):
        return name not in TEXTS or _QUOTES_USER.search(_text(told)) is not None
    return False


def _value_end(value: bytes, at: int) -> int:
    """Where the member's value that begins at `at` ends."""
    scalar = _SCALAR.match(value, at) if value[at : at + 1] not in (b'"', b"{", b"[") else None
    if scalar is not None:
        return scalar.end()
    depth = 0
    for token in _TOKEN.finditer(value, at):
        depth += (token[0] in (b"{", b"[")) - (token[0] in (b"}", b"]"))
        if depth == 0:
            return token.end()
    raise AssertionError("an object that was decoded ends nowhere")


def _told(token: bytes) -> bytes:
    """A text without its escapes; anything else as it stands, so that 7 and "7" are the same."""
    return _text(token).encode() if token.startswith(b'"') else token


def _safe_end(value: bytes) -> int:
    """Where, in what is no JSON object, the part ends that cannot speak of a shopper."""
    if not value.lstrip().startswith(b"{") or b"\0" in value:  # a list, a text, CSV, UTF-16, ...
        return 0
    found = _PERHAPS_USER.search(value, 0, _BROKEN_BYTES_MAX)
    end = min(len(value), _BROKEN_BYTES_MAX) if found is None else found.start()
    word, begin = b"", 0
    for token in _BROKEN.finditer(value, 0, end):  # a word, or what makes the last word a name
        if token[0] not in b":=":
            word, begin = token[0], token.start()
        elif word not in NAMES_KEPT:
            return begin
    return end


def _is_sku(key: bytes, parsed: dict[str, object] | None) -> bool:
    sku = None if parsed is None else parsed.get("sku")
    return isinstance(sku, str) and sku.encode() == key


def _is_sku_in(key: bytes, head: bytes) -> bool:
    """The same where JSON is broken."""
    return re.search(rb'"sku"\s*:\s*"' + re.escape(key) + rb'"', head) is not None
