"""Rules of the operators of the default domain, one operator family a module.

Every module registers its operators when it is imported. Operators of onnxruntime are in
`microsoft`, and those that are spelled out as plain ones in `plain`.
"""
