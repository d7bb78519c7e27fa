"""``/v2/``: a container registry, which is another server, in this one's names and rights."""

from pipe.web.registry.proxy import Registry

__all__ = ["Registry"]
