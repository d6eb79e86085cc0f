from cdc.codec._buffer cimport Buffer, put_be, taken
from cdc.codec._pgfield cimport Reader, copy_field
from cdc.codec._plan cimport RowPlan, Work
from cdc.codec._select cimport Packets, row

cdef class CopyPlan:
    cdef readonly str place
    cdef readonly int count
    cdef readonly list names
    cdef int[::1] op, a, null
    cdef Buffer spare

cdef int copy_row(CopyPlan plan, Buffer b, Reader r) except? -1
