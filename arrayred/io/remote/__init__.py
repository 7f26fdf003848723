"""Files behind URLs: how they are called (`address`), and how parts of them are had (`store`).

Whatever fsspec opens is meant: object stores, servers, its memory. Three rules hold for all of it.
What is there is asked once, by listing the folder; of a file only the bytes that are wanted travel;
and a file is held against what the listing said of it before anything in it is believed.
"""
