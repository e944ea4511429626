"""Picture files, decoded: upright, whole, and of bounded size, whatever made them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from inward.errors import InwardError

MOST_PIXELS = 100_000_000
_LIMIT = f"the limit of {MOST_PIXELS // 10**6} megapixels"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".npy"}
# No others, whatever a file's name says: Pillow opens some formats by running a program.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
DEEP = 65535
"""The largest value of 16-bit pictures."""


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture, and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def opened(path: Path, mode: str) -> Image.Image:
    """A picture upright, in the mode wanted: L, RGB or RGBA; 16-bit gray stays as deep (mode I;16 or I).

    Transparency is laid on white. Raises InwardError for a file that is no picture, not all of one, over 100
    megapixels, or of values without a range.
    """
    Image.init()
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise InwardError(f"{path} has {width} x {height} pixels, over {_LIMIT}; scale it down")
            picture.load()
            _check_depth(path, picture)
            return _in_mode(ImageOps.exif_transpose(picture), mode)
    except InwardError:
        raise
    except Image.DecompressionBombError as error:
        raise InwardError(f"{path} has too many pixels, over {_LIMIT}; scale it down") from error
    except Exception as error:  # decoders raise anything at all on a damaged file
        # Pillow names the file once more where it does not know what it is.
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({' '.join(str(error).split())[:160]})"
        told = f"{path} is not a picture that can be read{why}; replace it, or take it out of what is asked about"
        raise InwardError(told) from error


def _check_depth(path: Path, picture: Image.Image) -> None:
    if picture.mode == "F":
        raise InwardError(f"{path} holds floating-point values without a range; save it with 8 or 16 bits")
    if picture.mode == "I":
        low, high = (int(v) for v in picture.getextrema())  # type: ignore[arg-type]
        if low < 0 or high > DEEP:
            raise InwardError(f"{path} holds values from {low} to {high}, more than 16 bits; save it with 8 or 16 bits")


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in the mode wanted; 16-bit gray stays 16-bit, transparency is laid on white."""
    if picture.mode.startswith("I"):
        return picture
    if mode != "RGBA" and (picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info):
        above = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return picture.convert(mode)
