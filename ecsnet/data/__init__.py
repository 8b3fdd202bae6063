"""A data directory from outside: what is in its files, whether it is whole, and copies of it.

The files are read here by plain Python, which shares nothing with the kernel's own reader but the checksum: where the
two disagree, one of them is wrong. Only what a version *means* (replaying it into a store) is left to the kernel.

Formats: `README.md` here. Nothing in this package writes into a directory that it reads, the archive apart.
"""
