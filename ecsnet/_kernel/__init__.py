"""The Python side of the storage kernel: the only place that imports ctypes.

`library` finds and checks the compiled kernel, `abi` declares its functions and structures, `memory` lends its memory
to numpy, `kernel` is what the rest of ecsnet uses.
"""
