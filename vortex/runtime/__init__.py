"""Tools for one process: files, memory, threads, caches and process-wide settings."""
