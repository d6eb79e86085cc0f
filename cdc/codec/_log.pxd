from cdc.codec._buffer cimport Buffer, put_byte, put_long, put_object, put_buffer, put_digits, taken, murmur2
from cdc.codec._plan cimport RowPlan, Work, put_key
from cdc.codec._image cimport image

cdef class Frame:
    cdef bytes key_frame, value_frame, head, tail, transaction, times, epoch
    cdef object numbers
    cdef list out, seq
    cdef int partitions
    cdef long long total, order

cdef int emit(RowPlan plan, Frame f, Work w, int op, Py_ssize_t before, Py_ssize_t before_to, Py_ssize_t after, Py_ssize_t after_to, bytes key, long long row, object headers) except? -1
cdef long long rows_between(RowPlan plan, const unsigned char* p, Py_ssize_t at, Py_ssize_t last, int op, Frame f, Work w) except? -1
cdef bytes key_of(RowPlan plan, Frame f, Work w, Py_ssize_t image)
