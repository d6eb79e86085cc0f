"""The opcodes of the plans, for Python; `ops.pxd` says the same to the compiler, and a test holds the two together."""

from __future__ import annotations

# Source columns: how a value of the log, or of a SELECT, becomes Avro.
INT8, UINT8, INT16, UINT16, INT24, UINT24, INT32, UINT32, INT64, UINT64 = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
FLOAT, DOUBLE, DECIMAL, BIT, BITS, YEAR, DATE, DATETIME, TIMESTAMP, TIME = 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
TEXT, FIXED, BYTES, ENUM, SET, JSON, GEOMETRY, VECTOR, UUID, INET4, INET6 = 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

# Target columns: how an Avro value becomes a field of a binary COPY tuple.
TO_INT2, TO_INT4, TO_INT8, TO_REAL, TO_DOUBLE, TO_BOOL, TO_BIT, TO_BITS, TO_NUMERIC = 1, 2, 3, 4, 5, 6, 7, 8, 9
TO_TEXT, TO_BYTEA, TO_DATE, TO_STAMP_MS, TO_STAMP_US, TO_STAMP_TEXT, TO_INTERVAL = 10, 11, 12, 13, 14, 15, 16
TO_EWKB, TO_REALS, TO_UUID, TO_INET, TO_STAMP_NS, TO_INTERVAL_MS = 17, 18, 19, 20, 22, 23
# Those that a policy chose: from TO_TEXT_CHOSEN on, `cdc.codec.policy_values` has the last word.
TO_TEXT_CHOSEN, TO_DOCUMENT, TO_LOCAL, TO_FLAG, TO_WHOLE = 24, 25, 26, 27, 28

# How to pass over an Avro value; OPEN starts a union and says where its null ends.
SKIP_LONG, SKIP_BYTES, SKIP_4, SKIP_8, SKIP_1, SKIP_ARRAY, SKIP_UNION, SKIP_MARK = 1, 2, 3, 4, 5, 6, 7, 8
