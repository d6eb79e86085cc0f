# What the driver needs of the kernels at C level; the meaning is in driver.py.
from libc.stdlib cimport malloc, free
from libc.string cimport memcpy
from cdc.codec._buffer cimport Buffer, put_buffer, put_byte, put_object, taken
from cdc.codec._copy cimport CopyPlan, copy_row
from cdc.codec._image cimport value
from cdc.codec._json cimport put_json
from cdc.codec._log cimport Frame, rows_between
from cdc.codec._open cimport SkipPlan, open_value
from cdc.codec._pgfield cimport Reader, put_numeric
from cdc.codec._plan cimport RowPlan, Work
from cdc.codec._select cimport Packets, row

cdef class Lane:
    cdef readonly str name
    cdef readonly int kind
    cdef RowPlan plan
    cdef CopyPlan copy, keys
    cdef SkipPlan envelope
    cdef list small, large
    cdef Py_ssize_t room, factor
    cdef object reader, numbers
    cdef Work work

cdef class Fuzz:
    cdef unsigned long long seed, state
    cdef list groups
    cdef object stamp
    cdef readonly bint tight, digesting
    cdef readonly unsigned int digest
    cdef Buffer image, other, out
    cdef Reader r
    cdef long long[::1] marks
    cdef long long iteration
    cdef Py_ssize_t made
    cdef unsigned long long draw(self) noexcept
    cdef Py_ssize_t below(self, Py_ssize_t n) noexcept
    cdef Lane choose(self, long long iteration)
    cdef int mutate(self, Lane lane) except? -1
    cdef int change(self, Lane lane, int kind) except? -1
    cdef int rebuild(self, Py_ssize_t at, Py_ssize_t drop, Py_ssize_t more) except? -1
    cdef int extreme(self, Py_ssize_t n) except? -1
    cdef int attempt(self, Lane lane) except? -1
    cdef int judge(self, Lane lane, const unsigned char* p, Py_ssize_t n) except? -1
    cdef int decode(self, Lane lane, const unsigned char* p, Py_ssize_t n) except? -1
    cdef int rows(self, Lane lane, const unsigned char* p, Py_ssize_t n, int op) except? -1
    cdef int packets(self, Lane lane, const unsigned char* p, Py_ssize_t n) except? -1
    cdef int opened(self, Lane lane, const unsigned char* p, Py_ssize_t n) except? -1
    cdef int accept(self, Lane lane, CopyPlan plan, const unsigned char* p, Py_ssize_t at, Py_ssize_t end) except? -1
    cdef int bounded(self, Lane lane, Py_ssize_t made, Py_ssize_t n, Py_ssize_t rows) except? -1
    cdef int say(self, bytes text) except? -1
