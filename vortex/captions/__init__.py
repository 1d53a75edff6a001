"""Captions: the written words of a video with their times, in lines, in files beside it or in its frames."""
