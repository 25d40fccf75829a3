"""Makes the thumbnails of docs/index.md from what the examples drew: python docs/make_gallery.py output.

`output` is the folder that the examples write to by default. An example that has not been run keeps its thumbnail.
Those of notebooks are made of the pictures that these were saved with.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from PIL import Image

DOCS = Path(__file__).parent
SIZE = (240, 150)
Box = tuple[float, float, float, float]
"""A part of a picture: its left, upper, right and lower edge, as shares of the width and height."""

EXAMPLES: dict[str, tuple[str, Box]] = {
    "demo": ("demo/digits.png", (0.52, 0.08, 1, 0.68)),
    "gaussian_1d": ("gaussian_1d/gaussian_1d.png", (0.26, 0, 0.75, 1)),
    "wgan": ("wgan/wgan.png", (0, 0, 1, 1)),
    "linear_regression": ("linear_regression/linear_regression.png", (0, 0, 1, 1)),
    "mixture": ("mixture/mixture.png", (0.54, 0.085, 1, 0.9)),
    "two_moons": ("two_moons/two_moons.png", (0, 0, 1, 1)),
    "epidemic": ("epidemic/epidemic.png", (0, 0, 0.28, 1)),
    "conditional": ("conditional/conditional_labels_matching.png", (0, 0, 1, 0.65)),
    "inpainting": ("inpainting/inpainting.png", (0, 0, 1, 0.85)),
    "staged": ("staged/staged.png", (0, 0, 1, 0.62)),
    "dcgan": ("dcgan/dcgan.png", (0, 0.05, 0.325, 0.65)),
    "mnist": ("mnist/default.png", (0, 0, 0.6, 0.4)),
    "interpolation": ("interpolation/interpolation.png", (0, 0.05, 0.47, 0.745)),
    "bigan": ("bigan/bigan.png", (0, 0.065, 0.32, 0.7)),
    "simulator": ("simulator/simulator.png", (0, 0, 0.224, 1)),
    "eight_schools": ("eight_schools/eight_schools.png", (0, 0, 0.4, 0.5)),
    "svi_comparison": ("svi_comparison/svi_comparison.png", (0.34, 0, 1, 1)),
    "distributed": ("distributed/digits.png", (0, 0, 1, 0.62)),
    "beside": ("beside/beside.png", (0, 0, 1, 1)),
}
NOTEBOOKS: dict[str, tuple[int, Box]] = {
    "gan": (0, (0.5, 0, 1, 1)),
    "posterior": (0, (0.47, 0, 1, 1)),
    "svi_and_gan": (0, (0.32, 0, 1, 1)),
    "edward": (0, (0.4, 0, 1, 1)),
    "collapse": (0, (0.34, 0, 1, 1)),
    "images_on_demand": (0, (0, 0, 0.5, 1)),
}
"""Which of a notebook's pictures, counted from 0."""


def shrink(picture: Image.Image, box: Box, name: str) -> None:
    """Write a thumbnail of a few kB: the part of the picture on white, in few colours."""
    width, height = picture.size
    left, upper, right, lower = box
    corners = int(left * width), int(upper * height), int(right * width), int(lower * height)
    part = picture.convert("RGB").crop(corners)
    part.thumbnail(SIZE, Image.Resampling.LANCZOS)
    paper = Image.new("RGB", SIZE, "white")
    paper.paste(part, ((SIZE[0] - part.width) // 2, (SIZE[1] - part.height) // 2))
    path = DOCS / "images" / "gallery" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    paper.quantize(32).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


def saved_pictures(notebook: Path) -> list[Image.Image]:
    """The pictures that a notebook was saved with."""
    outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", [])]
    encoded = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]


if __name__ == "__main__":
    for name, (file, box) in EXAMPLES.items():
        if (path := Path(sys.argv[1]) / file).exists():
            shrink(Image.open(path), box, name)
    for name, (number, box) in NOTEBOOKS.items():
        if (path := DOCS.parent / "examples" / "notebooks" / f"{name}.ipynb").exists():
            shrink(saved_pictures(path)[number], box, name)
