"""The server: videos and portraits over HTTP."""
