"""A clip that speaks other words, with the person's own mouths."""
