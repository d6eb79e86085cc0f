from cdc.codec.ops cimport INET4, UUID
from cdc.codec._buffer cimport Buffer, put_byte, put_long, put_digits, put_unscaled, put_unscaled_object, put_raw, put_string, days_from_civil, date_fault, le
from cdc.codec._plan cimport RowPlan, broken, anomaly

cdef int put_date(RowPlan plan, Py_ssize_t i, Buffer b, long long y, int m, int d, bint counting) except? -1
cdef int put_datetime(RowPlan plan, Py_ssize_t i, Buffer b, long long y, int m, int d, long long micros, bint counting) except? -1
cdef int put_zoned(RowPlan plan, Py_ssize_t i, Buffer b, long long y, int m, int d, long long micros, bint counting) except? -1
cdef int put_geometry(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_vector(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_bits(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_address(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
cdef int put_fixed(RowPlan plan, Py_ssize_t i, Buffer b, const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
