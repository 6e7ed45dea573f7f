"""Import Pillow, an optional dependency."""

from types import ModuleType


def pillow() -> tuple[ModuleType, ModuleType]:
    """Return the modules PIL.Image and PIL.ImageOps.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError(
            "reading and writing image files needs Pillow: pip install -e '.[image]'"
        ) from None
    return Image, ImageOps
