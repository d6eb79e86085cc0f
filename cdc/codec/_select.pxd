from cdc.codec.ops cimport *
from cdc.codec._buffer cimport Buffer, put_byte, put_long, put_raw, put_object, put_string, put_double, put_float, put_unscaled, put_unscaled_object, taken, le
from cdc.codec._plan cimport RowPlan, Work, broken, put_text, put_key, valid_utf8
from cdc.codec._wire cimport put_date, put_datetime, put_fixed, put_zoned, put_geometry, put_vector, put_bits, put_address
from cdc.codec._log cimport Frame, emit, key_of

cdef Py_ssize_t row(RowPlan plan, const unsigned char* p, Py_ssize_t at, Py_ssize_t end, Work w) except? -1

cdef class Packets:
    cdef object block
    cdef bytes joined
    cdef const unsigned char* p
    cdef Py_ssize_t at, end, begin, stop
    cdef const unsigned char* source
    cdef bint next(self) except? -1
