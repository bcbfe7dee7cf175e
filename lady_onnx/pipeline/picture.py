"""An SVG of similarity matrices, written without a plotting package."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

CELL = 6
GAP = 60


def draw_matrices(panels: Sequence[tuple[str, np.ndarray]]) -> str:
    """The SVG text of matrices [n, n] of similarities in [-1, 1], side by side under their titles."""
    width = sum(m.shape[1] * CELL for _, m in panels) + GAP * (len(panels) + 1)
    height = max(m.shape[0] for _, m in panels) * CELL + 2 * GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    x = GAP
    for title, matrix in panels:
        rows, columns = matrix.shape
        out.append(f'<text x="{x}" y="{GAP - 14}">{escape(title)}</text>')
        out.append(
            f'<rect x="{x}" y="{GAP}" width="{columns * CELL}" height="{rows * CELL}" fill="#fff" stroke="#888"/>'
        )
        # one path a shade keeps the file small
        shades: dict[int, list[str]] = {}
        for i, j in zip(*np.nonzero(np.abs(matrix) >= 0.05), strict=True):
            shade = round(float(np.clip(abs(matrix[i, j]), 0, 1)) * 8)
            shades.setdefault(shade, []).append(
                f"M{x + j * CELL} {GAP + i * CELL}h{CELL}v{CELL}h-{CELL}z"
            )
        for shade, paths in sorted(shades.items()):
            if shade:
                out.append(
                    f'<path fill="#0b3d91" fill-opacity="{(shade / 8) ** 1.5:.2f}" d="{"".join(paths)}"/>'
                )
        middle = x + columns * CELL // 2
        out.append(
            f'<text x="{middle}" y="{GAP + rows * CELL + 20}" text-anchor="middle">unit of the suspect</text>'
        )
        out.append(
            f'<text transform="translate({x - 10} {GAP + rows * CELL // 2}) rotate(-90)" text-anchor="middle">'
            "unit of the reference</text>"
        )
        x += columns * CELL + GAP
    return "\n".join([*out, "</svg>"]) + "\n"
