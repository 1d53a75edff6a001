"""Speech to visemes."""
