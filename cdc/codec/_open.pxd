from cdc.codec.ops cimport *
from cdc.codec._pgfield cimport Reader, block_of, length, slice_of

cdef class SkipPlan:
    cdef readonly str place
    cdef readonly int count
    cdef int[::1] op, a

cdef object open_value(SkipPlan plan, Reader r, long long[::1] marks)
