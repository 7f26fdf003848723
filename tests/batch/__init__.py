"""Tests of whole nights, from disk to disk."""
