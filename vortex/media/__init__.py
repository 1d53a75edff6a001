"""Sound, pictures and video files."""
