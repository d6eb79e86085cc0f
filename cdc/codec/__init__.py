"""Rows between their three forms: the log's and a SELECT's bytes, Avro, and PostgreSQL's binary COPY.

The kernels exist once, as Python that Cython compiles; `KIND` says which form runs. CDC_PURE=1 forces the uncompiled
one.
"""

from __future__ import annotations

from cdc.codec import kernels

KIND = kernels.load()

from cdc.codec._buffer import placed  # noqa: E402 - the form of the kernels is decided first
from cdc.codec._log import encode_rows  # noqa: E402
from cdc.codec._plan import RowPlan  # noqa: E402
from cdc.codec._select import encode_select  # noqa: E402
from cdc.codec.records import Numbers, Opened, Stamp  # noqa: E402
from cdc.codec.select_list import select_list  # noqa: E402
from cdc.codec.value_plan import COPY_HEADER, COPY_TRAILER, TargetColumn, ValuePlan, select_to_copy  # noqa: E402

__all__ = [
    "COPY_HEADER",
    "COPY_TRAILER",
    "KIND",
    "Numbers",
    "Opened",
    "RowPlan",
    "Stamp",
    "TargetColumn",
    "ValuePlan",
    "encode_rows",
    "encode_select",
    "placed",
    "select_list",
    "select_to_copy",
]
