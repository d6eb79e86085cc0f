# What the kernels share at C level; the meaning is in _buffer.py.
from libc.stdlib cimport malloc, realloc, free
from libc.string cimport memcpy, memchr

cdef class Buffer:
    cdef unsigned char* data
    cdef readonly Py_ssize_t n
    cdef Py_ssize_t size
    cdef int need(self, Py_ssize_t more) except? -1
    cdef int reset(self) except? -1

cdef int put_byte(Buffer b, int value) except? -1
cdef int put_long(Buffer b, long long value) except? -1
cdef int put_raw(Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_object(Buffer b, bytes value) except? -1
cdef int put_buffer(Buffer b, Buffer other, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_string(Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_double(Buffer b, double value) except? -1
cdef int put_float(Buffer b, double value) except? -1
cdef int put_unscaled(Buffer b, unsigned long long magnitude, bint negative) except? -1
cdef int put_unscaled_object(Buffer b, object value) except? -1
cdef int put_digits(Buffer b, long long value, int width) except? -1
cdef int put_be(Buffer b, unsigned long long value, int width) except? -1
cdef bytes taken(Buffer b, Py_ssize_t at, Py_ssize_t n)
cdef long long days_from_civil(long long y, int m, int d) noexcept
cdef int date_fault(long long y, int m, int d) noexcept
cdef unsigned int murmur2(const unsigned char* p, Py_ssize_t n) noexcept
cdef unsigned long long le(const unsigned char* p, Py_ssize_t at, int n) noexcept
cdef unsigned long long be(const unsigned char* p, Py_ssize_t at, int n) noexcept
