"""Faces in pictures: landmarks, portraits, crops."""
