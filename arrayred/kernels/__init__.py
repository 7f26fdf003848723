"""Arithmetic on plain arrays: arrays in, arrays out, one thread, numpy alone.

Every number that reaches a product is made here, so that it cannot depend on how the work was cut
into bands, on the number of threads, or on which optional accelerators of xarray are installed.
"""
