from cdc.codec._buffer cimport Buffer, put_byte, put_long, put_raw, put_object, put_string

cdef class Work:
    cdef Buffer rows, value, key, other
    cdef long long[::1] at, to

cdef class RowPlan:
    cdef readonly object table
    cdef readonly int count, keys
    cdef public int unlisted
    cdef readonly dict anomalies
    cdef readonly list names, labels, charsets, tables, sentinels, replaces
    cdef int[::1] op, a, b, c, tag, iskey, key, dates
    cdef bint counting
    cdef Work spare
    cdef Work work(self)
    cdef int keep(self, Work w) except? -1

cdef object broken(RowPlan plan, Py_ssize_t i, Py_ssize_t at, str rule)
cdef int anomaly(RowPlan plan, Py_ssize_t i, int fault, bint counting, Buffer b) except? -1
cdef bytes piece(const unsigned char* p, Py_ssize_t at, Py_ssize_t n)
cdef int put_text(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef bint valid_utf8(const unsigned char* p, Py_ssize_t at, Py_ssize_t n, unsigned int top) except? -1
cdef int put_key(RowPlan plan, Work w, Buffer key, bytes frame, Py_ssize_t image) except? -1
