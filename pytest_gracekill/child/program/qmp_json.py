"""JSON as QEMU reads and writes it: `qobject/json-lexer.c`, `json-streamer.c`, `json-parser.c`.

A stream has no line ends that mean anything: a message is complete when its brackets are. QEMU
takes strings in single quotes, too, and its texts for what is wrong are what clients show. Written
is in QEMU's spacing. What differs: the order of the names within an `id` that is an object, which
is the order of a hash table in QEMU.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MOST_NESTED = 1024
FRAMES = 4 * MOST_NESTED  # of Python's, which take no C stack: so many may be needed to read it
MOST_BYTES = 64 << 20

_TOKEN = re.compile(
    rb"""(?P<structure>[{}\[\]:,])
    | (?P<word>[a-z]+)
    | (?P<string>"(?:[^"\\\x00-\x1f\xfe\xff]|\\[^\x00-\x1f\xfe\xff])*"
        | '(?:[^'\\\x00-\x1f\xfe\xff]|\\[^\x00-\x1f\xfe\xff])*')
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9.eE]))""",
    re.VERBOSE,
)
_BLANK = re.compile(rb"[ \t\r\n]*")
_RECOVERY = re.compile(rb"[\t\x20-\xfd]*?(?=[\x00-\x08\x0a-\x1f\xfe\xff{}\[\]:,])")
# what may be the begin of a token; what comes next decides
_BEGUN = re.compile(
    rb"""["'](?:[^\\\x00-\x1f\xfe\xff]|\\[^\x00-\x1f\xfe\xff])*\\?
    | -?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)? | - | [a-z]+""",
    re.VERBOSE,
)
_STRAY = re.compile(
    rb"""["'](?:[^\\\x00-\x1f\xfe\xff]|\\[^\x00-\x1f\xfe\xff])*(?:\\?[\x00-\x1f\xfe\xff])
    | 0[0-9] | -?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?)?[^0-9] | -?. """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {c: c for c in "\"'\\/"}
_ESCAPES = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"} | {
    '"': '\\"',
    "\\": "\\\\",
}
LONGEST_INT = 20  # digits of 2^64, and a sign
SMALLEST, LARGEST = -(2**63), 2**64 - 1
_WORDS: dict[bytes, Json] = {b"true": True, b"false": False, b"null": None}

Token = tuple[str, bytes]


class Malformed(Exception):  # noqa: N818  # what came in, not what went wrong in here
    """What QEMU says of input that is no JSON."""


class Reader:
    """Takes bytes as they come; iterating yields each message that is complete, or `Malformed`."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._tokens: list[Token] = []
        self._size = 0
        self._braces = self._brackets = 0
        self._recovers = False

    @property
    def idle(self) -> bool:
        """Whether nothing of an unfinished message is held."""
        return not self._text and not self._tokens

    def feed(self, data: bytes) -> None:
        self._text += data

    def __iter__(self) -> "Iterator[Json | Malformed]":
        """Yield what is complete; to be asked again when more was fed."""
        while (token := self._next()) is not None:
            try:
                if self._take(token):
                    yield _Parser(self._restart()).whole()
            except Malformed as fault:
                self._restart()
                yield fault

    def _restart(self) -> list[Token]:
        tokens, self._tokens = self._tokens, []
        self._size = self._braces = self._brackets = 0
        return tokens

    def _next(self) -> Token | None:
        """Take one token from the text; None when it needs more."""
        if self._recovers:
            found = _RECOVERY.match(self._text)
            if found is None:
                self._text.clear()
                return None
            del self._text[: found.end()]
            self._recovers = False
        blank = _BLANK.match(self._text)
        assert blank is not None
        del self._text[: blank.end()]
        if not self._text:
            return None
        found = _TOKEN.match(self._text)
        open_ended = found is None or found.lastgroup in ("word", "number")
        begun = _BEGUN.match(self._text) if open_ended else None
        if begun is not None and begun.end() == len(self._text):
            return None
        if found is None:
            found = _STRAY.match(self._text)
            assert found is not None
            self._recovers = True
        token = found.lastgroup or "stray", bytes(found[0])
        del self._text[: found.end()]
        return token

    def _take(self, token: Token) -> bool:
        """Add a token; say whether it was the last of a message."""
        kind, text = token
        if kind == "stray":
            raise Malformed(f"JSON parse error, stray '{text.decode(errors='replace')}'")
        self._braces += (text == b"{") - (text == b"}")
        self._brackets += (text == b"[") - (text == b"]")
        self._size += len(text) + 1
        if self._size > MOST_BYTES:
            raise Malformed("JSON token size limit exceeded")
        if self._braces + self._brackets > MOST_NESTED:
            raise Malformed("JSON nesting depth limit exceeded")
        self._tokens.append(token)
        inside = (self._braces > 0 or self._brackets > 0) and min(self._braces, self._brackets) >= 0
        return not inside


class _Parser:
    """QEMU's recursive descent, with its words for what is wrong."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def whole(self) -> Json:
        """Return the one value that the tokens are."""
        return self._value()

    def _pop(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ("end", b"")

    def _peek(self) -> bytes:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else b""

    def _value(self) -> Json:
        kind, text = self._pop()
        match kind, text:
            case "structure", b"{":
                return self._object()
            case "structure", b"[":
                return self._array()
            case "string", _:
                return _unquoted(text)
            case "number", _:
                return _number(text)
            case "word", _ if text in _WORDS:
                return _WORDS[text]
            case "word", _:
                raise Malformed(f"JSON parse error, invalid keyword '{text.decode()}'")
            case _:
                raise Malformed("JSON parse error, expecting value")

    def _object(self) -> Json:
        found: dict[str, Json] = {}
        if self._peek() == b"}":
            self._pop()
            return found
        while True:
            name = self._value()
            if not isinstance(name, str):
                raise Malformed("JSON parse error, key is not a string in object")
            if self._pop()[1] != b":":
                raise Malformed("JSON parse error, missing : in object pair")
            value = self._value()
            if name in found:
                raise Malformed("JSON parse error, duplicate key")
            found[name] = value
            end = self._pop()[1]
            if end == b"}":
                return found
            if end != b",":
                raise Malformed("JSON parse error, expected separator in dict")

    def _array(self) -> Json:
        found: list[Json] = []
        if self._peek() == b"]":
            self._pop()
            return found
        while True:
            found.append(self._value())
            end = self._pop()[1]
            if end == b"]":
                return found
            if end != b",":
                raise Malformed("JSON parse error, expected separator in list")


def _number(text: bytes) -> int | float:
    if len(text) <= LONGEST_INT and text.lstrip(b"-").isdigit():
        value = int(text)
        if SMALLEST <= value <= LARGEST:
            return value
    return float(text)


def _unquoted(text: bytes) -> str:
    try:
        inner = text[1:-1].decode()
    except UnicodeDecodeError:
        raise Malformed("JSON parse error, invalid UTF-8 sequence in string") from None
    if "\\" not in inner:
        return inner
    first, *rest = re.split(r"(\\u[0-9a-fA-F]{4}|\\.)", inner, flags=re.DOTALL)
    parts = [first]
    for escape, plain in zip(rest[::2], rest[1::2], strict=True):
        parts += _unescaped(escape), plain
    # the two halves of a character beyond U+FFFF
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(escape: str) -> str:
    if escape[1] == "u":
        if len(escape) < len("\\u0000"):
            raise Malformed("JSON parse error, invalid hex escape '\\u' in string")
        return chr(int(escape.removeprefix("\\u"), 16))
    if escape[1] not in _ESCAPED:
        raise Malformed(f"JSON parse error, invalid escape sequence '{escape}' in string")
    return _ESCAPED[escape[1]]


def encode(value: Json, indent: str | None = None) -> str:  # noqa: PLR0911  # one for each type
    """Return the text as QEMU would print it, without the end of line.

    :param indent: `""` for the many lines of `-qmp-pretty`; what is deeper is indented more.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"{value:.17g}"
        case str():
            return '"' + "".join(map(_escape, value)) + '"'
    deeper = None if indent is None else indent + "    "
    if isinstance(value, list):
        return _enclosed("[", [encode(inner, deeper) for inner in value], "]", indent)
    pairs = [f"{encode(name)}: {encode(inner, deeper)}" for name, inner in value.items()]
    return _enclosed("{", pairs, "}", indent)


def _enclosed(begin: str, items: list[str], end: str, indent: str | None) -> str:
    if indent is None:
        return begin + ", ".join(items) + end
    lines = [f"\r\n{indent}    {item}" for item in items]
    return f"{begin}{','.join(lines)}\r\n{indent}{end}"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be", "replace")
    return "".join(f"\\u{units[i]:02X}{units[i + 1]:02X}" for i in range(0, len(units), 2))
