"""The factors by which units were multiplied: measured, fitted, told from drift, rounded."""
