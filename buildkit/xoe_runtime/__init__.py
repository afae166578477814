"""Settings of frameworks that an image was built with (``[framework]`` of its stage), applied by the program in it.

Call `apply` first, in the process that computes (after a fork), and use the other functions where their result goes::

    import xoe_runtime

    xoe_runtime.apply()
    model = xoe_runtime.checkpointed(model)
    with xoe_runtime.autocast():
        loss = model(batch)

Where there is no GPU, what concerns GPUs does nothing, and a warning of the logger ``xoe_runtime`` says so once. What a
framework reads from the environment is not here but in the image's config. The package needs Python 3.9 and nothing
else; it imports a framework when a function needs it.
"""

from .applied import apply
from .onnx import providers, session_options
from .pytorch import autocast, checkpointed, grad_scaler

__all__ = ["apply", "autocast", "checkpointed", "grad_scaler", "providers", "session_options"]
