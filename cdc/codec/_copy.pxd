from cdc.codec.ops cimport TO_FLAG, TO_LOCAL, TO_TEXT_CHOSEN
from cdc.codec._buffer cimport Buffer, put_be, put_object, put_raw, taken
from cdc.codec._pgfield cimport Reader, copy_field, has_nul, length, put_length, slice_of, zoned_micros
from cdc.codec._plan cimport RowPlan, Work
from cdc.codec._select cimport Packets, row

cdef class CopyPlan:
    cdef readonly str place
    cdef readonly int count
    cdef readonly list names, choices
    cdef public dict changed
    cdef int[::1] op, a, null
    cdef Buffer spare

cdef int copy_row(CopyPlan plan, Buffer b, Reader r) except? -1
