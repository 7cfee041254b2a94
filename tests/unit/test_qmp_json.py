"""JSON as QEMU reads and writes it: the literals are what QEMU 7.2.22 of Debian 12 answered."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gracekill.child.program.qmp_json import MOST_NESTED, Json, Malformed, Reader, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value % 1 != 0)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def read(*pieces: bytes) -> list[Json]:
    """Everything that comes of these pieces; what is malformed as its text."""
    reader, found = Reader(), []
    for piece in pieces:
        reader.feed(piece)
        found += [str(each) if isinstance(each, Malformed) else each for each in reader]
    return found


def bytewise(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]


MALFORMED = {
    b'"abc\n': ["JSON parse error, stray '\"abc\n'"],
    b'{"a": "x\ny"}\n': [
        "JSON parse error, stray '\"x\n'",
        "JSON parse error, expecting value",
    ],
    b'{"execute": Foo}\n': [
        "JSON parse error, stray 'F'",
        "JSON parse error, expecting value",
    ],
    b'{"execute": foo}\n': ["JSON parse error, invalid keyword 'foo'"],
    b"quit\n": ["JSON parse error, invalid keyword 'quit'"],
    b"{]": ["JSON parse error, expecting value"],
    b"}": ["JSON parse error, expecting value"],
    b'{"execute":}': ["JSON parse error, expecting value"],
    b'{"a" 1}': ["JSON parse error, missing : in object pair"],
    b'{"execute"\n}': ["JSON parse error, missing : in object pair"],
    b'{"a":1 "b":2}': ["JSON parse error, expected separator in dict"],
    b"[1 2]": ["JSON parse error, expected separator in list"],
    b"{1:2}": ["JSON parse error, key is not a string in object"],
    b'{"a":1,}': ["JSON parse error, expecting value"],
    b"[1,]": ["JSON parse error, expecting value"],
    b'{"a":01}': ["JSON parse error, stray '01'", "JSON parse error, expecting value"],
    b'{"a":1,"a":2}': ["JSON parse error, duplicate key"],
    b"\xff@\n%d\n": ["JSON parse error, stray '\ufffd'", "JSON parse error, stray '%'"],
    b'{"execute":"\xff"}\n': [
        "JSON parse error, stray '\"\ufffd'",
        "JSON parse error, expecting value",
    ],
}


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_malformed_is_said_as_qemu_says_it_and_what_follows_is_read(text: bytes) -> None:
    assert read(text + b'{"a": 1}') == [*MALFORMED[text], {"a": 1}]
    assert read(*bytewise(text + b'{"a": 1}')) == [*MALFORMED[text], {"a": 1}]


def test_messages_end_with_their_brackets() -> None:
    text = b'{"execute":"a"}{"execute":"b","id":[{}]}[]true "x"\n'
    expected: list[Json] = [{"execute": "a"}, {"execute": "b", "id": [{}]}, [], True, "x"]
    assert read(text) == expected
    assert read(*bytewise(text)) == expected


def test_single_quotes_are_quotes() -> None:
    assert read(b"{'execute':'no\\'p\"e'}") == [{"execute": "no'p\"e"}]


def test_escapes_in_and_out() -> None:
    sent = b'"\xc3\xa9\xf0\x9f\x98\x80\x7f\\n\\u00e9/\\/\\t\\"\\u0001\\ud83d\\ude00<>&" '
    (text,) = read(sent)
    assert text == 'é😀\x7f\né//\t"\x01😀<>&'
    assert encode(text) == (r'"\u00E9\uD83D\uDE00\u007F\n\u00E9//\t\"\u0001\uD83D\uDE00<>&"')


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (b"12345678901234567890", "12345678901234567890"),
        (b"-0.5e3", "-500"),
        (b"1e400", "inf"),
        (b"1.0", "1"),
        (b"0.1", "0.10000000000000001"),
        (b"9" * 5000, "inf"),
    ],
)
def test_numbers_come_back_as_qemu_prints_them(sent: bytes, echoed: str) -> None:
    (value,) = read(sent + b" ")
    assert encode(value) == echoed


def test_what_is_nested_too_deep_is_refused() -> None:
    first, *rest = read(b"[" * (MOST_NESTED + 1) + b"]" * (MOST_NESTED + 1))
    assert first == "JSON nesting depth limit exceeded"
    assert set(map(str, rest)) == {"JSON parse error, expecting value"}


def test_the_pretty_form_has_a_line_for_each_item() -> None:
    value: Json = {"return": [], "id": [1, {}, []]}
    lines = [
        "{",
        '    "return": [',
        "    ],",
        '    "id": [',
        "        1,",
        "        {",
        "        },",
        "        [",
        "        ]",
        "    ]",
        "}",
    ]
    assert encode(value, "") == "\r\n".join(lines)


@settings(deadline=None)  # a busy machine is no finding
@given(VALUES)
def test_what_is_written_is_read_as_it_was(value: Json) -> None:
    assert read(encode(value).encode() + b" ") == [value]
    assert read(encode(value, "").encode() + b" ") == [value]


@settings(deadline=None)  # as above
@given(st.binary())
def test_no_input_breaks_the_reader(text: bytes) -> None:
    whole, pieces = read(text), read(*bytewise(text))
    assert repr(whole) == repr(pieces)  # a NaN is no equal of itself
