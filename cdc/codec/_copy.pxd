from cdc.codec.ops cimport *
from cdc.codec._buffer cimport Buffer, put_byte, put_raw, put_object, put_be, put_buffer, taken, days_from_civil, memchr
from cdc.codec._plan cimport RowPlan, Work
from cdc.codec._select cimport Packets, row

cdef class Reader:
    cdef const unsigned char* p
    cdef Py_ssize_t at, end
    cdef long long number(self) except? -1

cdef class CopyPlan:
    cdef readonly str place
    cdef readonly int count
    cdef readonly list names
    cdef int[::1] op, a, null
    cdef Buffer spare

cdef class SkipPlan:
    cdef readonly str place
    cdef readonly int count
    cdef int[::1] op, a
