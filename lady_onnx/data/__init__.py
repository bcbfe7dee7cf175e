"""The small network of the demo, and the digits that it was not trained on."""
