"""Visemes to facial motion."""
