"""TODO."""

from __future__ import annotations

MAX_SHAPE_ELEMENTS = 64
"""Constants of more elements do not say what shape a result has."""
