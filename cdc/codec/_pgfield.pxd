from cdc.codec.ops cimport *
from cdc.codec._buffer cimport Buffer, put_byte, put_raw, put_object, put_be, days_from_civil, memchr

cdef class Reader:
    cdef const unsigned char* p
    cdef Py_ssize_t at, end
    cdef long long number(self) except? -1

cdef Py_ssize_t length(Reader r) except? -1
cdef bytes slice_of(Reader r, Py_ssize_t n)
cdef int copy_field(Buffer b, Reader r, int op, int a) except? -1
