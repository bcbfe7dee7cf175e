"""An SVG of similarity matrices, written without a plotting package."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

CELL_PIXELS = 6
"""The side of the square of one pair of units."""
MARGIN_PIXELS = 60
"""The space around and between the matrices."""
SCALE_PIXELS = 46
"""The height of the colour scale with its numbers."""
MAX_SHADE = 8
"""The number of shades above white."""
SHADE_EXPONENT = 1.5
"""Opacity grows with this power of the similarity, so that what is similar stands out."""
MIN_DRAWN_SIMILARITY = 0.05
"""Smaller similarities are left white, which keeps the file small."""
COLOUR = "#0b3d91"


def draw_matrices(
    panels: Sequence[tuple[str, np.ndarray]], caption: str = "", cell_pixels: int = CELL_PIXELS
) -> str:
    """Draw similarity matrices side by side, under their titles and above a scale of the shades.

    Where units were shuffled, the dark dots of those that belong to each other lie scattered; where
    they are in place, the dots lie on the diagonal.

    Args:
        panels: titles, and similarities in [-1, 1], [units of the reference, units of the suspect].
        caption: a line above all of them, such as the name of the layer.
        cell_pixels: the side of the square of one pair of units.

    Returns:
        The text of an SVG file.
    """
    inner = sum(m.shape[1] * cell_pixels for _, m in panels)
    width = inner + MARGIN_PIXELS * (len(panels) + 1)
    tallest = max(m.shape[0] for _, m in panels) * cell_pixels
    height = tallest + 2 * MARGIN_PIXELS + SCALE_PIXELS
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    if caption:
        parts.append(f'<text x="{MARGIN_PIXELS}" y="20" fill="#555">{escape(caption)}</text>')
    x = MARGIN_PIXELS
    for title, matrix in panels:
        parts += _draw_panel(x, title, matrix, cell_pixels)
        x += matrix.shape[1] * cell_pixels + MARGIN_PIXELS
    # The scale lies below the axes' names, which end 20 pixels below the matrices.
    parts += _draw_scale(MARGIN_PIXELS, MARGIN_PIXELS + tallest + 42)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_panel(x: int, title: str, matrix: np.ndarray, cell: int) -> list[str]:
    """Draw one matrix with its title and axes, its left edge at `x`."""
    rows, columns = matrix.shape
    top, bottom = MARGIN_PIXELS, MARGIN_PIXELS + rows * cell
    right, middle = x + columns * cell, x + columns * cell // 2
    centre = MARGIN_PIXELS + rows * cell // 2
    frame = f'width="{columns * cell}" height="{rows * cell}"'
    small = 'font-size="10" fill="#555"'
    return [
        f'<text x="{x}" y="{top - 14}">{escape(title)}</text>',
        f'<rect x="{x}" y="{top}" {frame} fill="#fff" stroke="#888"/>',
        *_draw_cells(x, matrix, cell),
        f'<text x="{x}" y="{bottom + 12}" {small}>0</text>',
        f'<text x="{right}" y="{bottom + 12}" {small} text-anchor="end">{columns - 1}</text>',
        f'<text x="{x - 4}" y="{top + 9}" {small} text-anchor="end">0</text>',
        f'<text x="{x - 4}" y="{bottom}" {small} text-anchor="end">{rows - 1}</text>',
        f'<text x="{middle}" y="{bottom + 20}" text-anchor="middle">unit of the suspect</text>',
        f'<text transform="translate({x - 18} {centre}) rotate(-90)" text-anchor="middle">'
        "unit of the reference</text>",
    ]


def _draw_cells(x: int, matrix: np.ndarray, cell: int) -> list[str]:
    """Draw the pairs of units that are similar; one path a shade keeps the file small."""
    paths: dict[int, list[str]] = {}
    for i, j in zip(*np.nonzero(np.abs(matrix) >= MIN_DRAWN_SIMILARITY), strict=True):
        shade = round(float(np.clip(abs(matrix[i, j]), 0, 1)) * MAX_SHADE)
        place = f"M{x + j * cell} {MARGIN_PIXELS + i * cell}"
        square = f"{place}h{cell}v{cell}h-{cell}z"
        paths.setdefault(shade, []).append(square)
    return [
        f'<path fill="{COLOUR}" fill-opacity="{_opacity_of(shade):.2f}" d="{"".join(squares)}"/>'
        for shade, squares in sorted(paths.items())
        if shade
    ]


def _draw_scale(x: int, y: int) -> list[str]:
    """Draw the shades from white to the darkest with their similarities."""
    step = 3 * CELL_PIXELS
    parts = [f'<text x="{x}" y="{y + 10}" font-size="11">cosine similarity</text>']
    left = x + 110
    for shade in range(MAX_SHADE + 1):
        at = f'x="{left + shade * step}" y="{y}" width="{step}" height="12"'
        parts.append(f'<rect {at} fill="{COLOUR}" fill-opacity="{_opacity_of(shade):.2f}"/>')
    whole = f'x="{left}" y="{y}" width="{(MAX_SHADE + 1) * step}" height="12"'
    parts.append(f'<rect {whole} fill="none" stroke="#888"/>')
    for shade in (0, MAX_SHADE // 2, MAX_SHADE):
        place = f'x="{left + shade * step + step // 2}" y="{y + 24}"'
        number = f"{shade / MAX_SHADE:g}"
        parts.append(f'<text {place} font-size="10" text-anchor="middle">{number}</text>')
    return parts


def _opacity_of(shade: int) -> float:
    """Return the opacity of a shade, 0 to 1."""
    return float((shade / MAX_SHADE) ** SHADE_EXPONENT)
