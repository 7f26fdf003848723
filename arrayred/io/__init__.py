"""The only door to disk: frames in, products out.

FITS keywords appear here and in instrument files only.
"""
