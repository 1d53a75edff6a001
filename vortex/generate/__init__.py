"""From a text and a prompt to a verified video: speech, picture, frames, and a comparison with the prompt."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """Makes ``vortex.generate(...)`` work: importing a submodule sets that name to this folder's module."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from vortex.generate.run import generate

        return generate(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
