from cdc.codec.ops cimport *
from cdc.codec._buffer cimport Buffer, put_byte, put_long, put_raw, put_object, put_string, put_unscaled, put_unscaled_object, le, be
from cdc.codec._plan cimport RowPlan, Work, broken, piece, put_text
from cdc.codec._wire cimport put_date, put_datetime, put_fixed, put_zoned, put_geometry, put_vector, put_bits, put_address
from cdc.codec._json cimport put_json

cdef Py_ssize_t value(RowPlan plan, Py_ssize_t i, const unsigned char* p, Py_ssize_t at, Py_ssize_t end, Buffer b, bint counting) except? -1
cdef Py_ssize_t image(RowPlan plan, const unsigned char* p, Py_ssize_t at, Py_ssize_t end, Work w, int which, bint counting) except? -1
