"""The mesh engine: CPU only, nothing to download."""

from vortex.engines.mesh.engine import MeshEngine, MeshPortrait

__all__ = ["MeshEngine", "MeshPortrait"]
