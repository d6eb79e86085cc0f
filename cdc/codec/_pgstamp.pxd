from cdc.codec._buffer cimport date_fault, days_from_civil

cdef long long zoned_micros(const unsigned char* p, Py_ssize_t at, Py_ssize_t n) except? -1
