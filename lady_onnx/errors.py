"""The one family of errors that lady-onnx raises on purpose."""


class LadyError(Exception):
    """A call or an input that cannot be used. The message is one line: the file, the place, the mend."""


class ArchitectureError(LadyError):
    """Two models that are not the same network."""


class UnknownStructure(LadyError):
    """A node that the analysis cannot describe; the engine turns it into pins."""
