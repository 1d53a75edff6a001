"""The same frames in less time: less arithmetic, fused GPU kernels, reuse of frames, parallel copies.

The networks here compute the published numbers, up to rounding; docs/liveportrait.md says what each saves.
"""
