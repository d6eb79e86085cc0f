"""Text of the log that is no row's: labels and statements, in whatever character set they were written. Pure."""

from __future__ import annotations

from cdc.codec import charsets

UNREADABLE = "?"
"""What stands for a statement whose quotes cannot be found: no verb, so that nothing takes it for harmless."""
_ASCII_WITHIN = frozenset({"big5", "sjis", "cp932", "gbk", "gb18030"})
"""Sets whose characters may end with the byte of a backslash or a backtick."""


def text_of(charset: str, raw: bytes) -> str | None:
    """Text as the server would show it; None when the bytes are none, or the character set is unknown. Not for rows:
    slow."""
    known = charsets.CHARSETS.get(charset)
    if known is None:
        return None
    try:
        if known.kind in (charsets.UTF8, charsets.UTF8_SHORT):
            return raw.decode("utf-8")
        if known.kind == charsets.TABLE:
            entries = charsets.table(charset)
            encoded = [entries[4 * byte + 1 : 4 * byte + 1 + entries[4 * byte]] for byte in raw]
            return b"".join(encoded).decode("utf-8") if all(encoded) else None
    except UnicodeDecodeError:
        return None
    found = charsets.to_utf8(charset, raw)
    return None if found is None else found.decode("utf-8")


def statement_of(charset: str, raw: bytes) -> str:
    """A logged statement; a string in it may be no text of the client's character set, and its bytes do not matter."""
    found = text_of(charset, raw)
    if found is not None:
        return found
    return UNREADABLE if charset in _ASCII_WITHIN else raw.decode("utf-8", "replace")
