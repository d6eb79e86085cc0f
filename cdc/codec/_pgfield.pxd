from cdc.codec.ops cimport *
from cdc.codec._buffer cimport Buffer, put_byte, put_raw, put_object, put_be, memchr
from cdc.codec._pgstamp cimport zoned_micros

cdef class Reader:
    cdef const unsigned char* p
    cdef Py_ssize_t at, end
    cdef long long number(self) except? -1

cdef Py_ssize_t length(Reader r) except? -1
cdef long long block_of(Reader r, int width) except? -1
cdef int put_numeric(Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n, int scale) except? -1
cdef bytes slice_of(Reader r, Py_ssize_t n)
cdef int put_length(Buffer b, Py_ssize_t n) except? -1
cdef long long zoned_micros(const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef bint has_nul(const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int copy_field(Buffer b, Reader r, int op, int a) except? -1
