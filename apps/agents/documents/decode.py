"""Bytes to text without being told the encoding."""

from __future__ import annotations

import codecs

_BOMS = (
    # The longer mark first: UTF-32 LE begins with the mark of UTF-16 LE.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes) -> str | None:
    """Text of the bytes with `\\n` line ends, or None when they are not text.

    A byte order mark decides; then UTF-8 if it fits; then UTF-16 without a mark if every other byte is mostly
    zero; then Windows-1252, and Latin-1 for what that leaves undefined. No NUL is left in the text.
    """
    text = _decode(data)
    if text is None:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", " ")


def _decode(data: bytes) -> str | None:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    sample = data[:4096]
    zeros = sample.count(0)
    if zeros:
        for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if len(sample) >= 4 and sample[first::2].count(0) * 10 >= len(sample[first::2]) * 4:
                text = data.decode(encoding, "replace")
                odd = text.count("�") + sum(c < " " and c not in "\t\n\r\f" for c in text[:4096])
                return text if odd * 20 < len(text) else None
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in sample)
    if control * 20 > len(sample):
        return None
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")
