"""Are the spectra right, and do they know how well? Simulated nights against their own truth.

`cells` says which nights, `nights` reduces one and compares, `measures` makes numbers of many,
`aims` what they should be, `tables` and `__main__` show them. Nothing touches the disk: frames go
from the simulator through `arrayred.reduce_target`, the same calls that `arrayred reduce` makes.
"""
