"""A BMP image made brighter, or darker, by all workers of an engine: in place, or into another file."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

import mmflow as mf

Pixels = npt.NDArray[np.uint8]


@mf.job
def brighten(
    session: mf.Session, *, source: str, factor: float = 1.2, out: str | None = None
) -> mf.WriteResult:
    """Every colour of every pixel, multiplied; what would be more than white is white.

    Args:
        source: an uncompressed BMP file of 24 or 32 bits a pixel
        factor: by which
        out: the file to write; without, the source is changed in place
    """
    if factor < 0:
        raise mf.ConfigError(f"--factor {factor}: must not be less than 0")
    image = mf.open_image(source)
    colours = [n for n, name in enumerate(image.channels) if name in "RGB"]
    # Black stays black, so holes stay holes.
    return session.map_array(
        image, brighter(factor, colours), out=out, in_place=out is None, overwrite=True, skip_holes=True
    )


def brighter(factor: float, colours: list[int]) -> Callable[[Pixels], Pixels]:
    """A function over pixels that multiplies some of their channels."""
    table = np.minimum(np.rint(np.arange(256) * factor), 255).astype(np.uint8)

    def multiplied(pixels: Pixels) -> Pixels:
        made = table[pixels]
        for channel in set(range(pixels.shape[-1])) - set(colours):
            made[..., channel] = pixels[..., channel]
        return made

    return multiplied
