from cdc.codec._buffer cimport Buffer, put_byte, put_long, put_raw, put_object, put_buffer, put_digits, le
from cdc.codec._plan cimport RowPlan, broken, valid_utf8

cdef int put_json(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
