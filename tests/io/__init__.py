"""Tests of the door to disk: frames in, products out."""
