"""A node and its clients in one process, in virtual time, on a bad network, from one seed.

Shipped to users: a game tests lag in its own suite with it, and ecsnet proves its promises with it. The cores, the
frames and the store are the real ones; only the network, the clocks and the disk are simulated.
"""
