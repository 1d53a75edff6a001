"""The mesh engine: warps the photo on the CPU and needs no download."""
