"""Labels of elements, and what is known about them: arrays alone.

The package knows neither operators nor their rules. It holds the abstract values of tensors
(`tensors`), arrays of labels (`roles`), the language of equations over named axes (`equations`),
the facts that a walk collects (`facts`), how roles that meet are unified (`unification`), and the
labels of weights (`weights`).
"""
