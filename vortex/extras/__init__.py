"""Optional stages around the video, each behind an extra of its own: speech, image, verification."""
