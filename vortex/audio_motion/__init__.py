"""Learned models that turn a voice into the motion of LivePortrait's keypoints, behind one interface."""
