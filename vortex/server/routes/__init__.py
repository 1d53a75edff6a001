"""The routes: each file of this folder has a ``router``, which the application finds and adds."""
