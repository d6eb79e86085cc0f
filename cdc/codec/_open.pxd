from cdc.codec.ops cimport *
from cdc.codec._pgfield cimport Reader, length, slice_of

cdef class SkipPlan:
    cdef readonly str place
    cdef readonly int count
    cdef int[::1] op, a
