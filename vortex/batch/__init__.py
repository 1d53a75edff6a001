"""Many videos from a list: rows in parallel, resumed after a kill, and independent of each other."""
