"""What torch asks of a function beyond values and first gradients, and who then computes: decided here, for all back ends.

A kernel (numba, Triton) gives values and first gradients of float32 tensors. Everything else torch can only ask of torch code:
second derivatives, `torch.func` (grad, vmap, jacrev, hessian), forward mode, batches of gradients, a recorded graph. There the
kernels step aside for their plain torch reference.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, wraps

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd.forward_ad import unpack_dual


def beyond_kernels(*tensors: Tensor) -> bool:
    """Whether torch wants to see the operations on these tensors: a transform, forward mode, or a graph that is recorded."""
    return (
        transformed()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or any(type(x) not in (Tensor, torch.nn.Parameter) for x in tensors)  # others record what is done to them
        or not all(torch._C._has_storage(x) for x in tensors)  # those of `is_grads_batched`, which stand for many
        or any(unpack_dual(x).tangent is not None for x in tensors)
    )


def transformed() -> bool:
    """Whether `torch.func` is transforming a function."""
    return torch._C._are_functorch_transforms_active()


def without_numbers(x: Tensor) -> bool:
    """Whether there are no numbers to look at: a graph is recorded, or the tensor has a shape alone."""
    recorder = torch._C._TorchDispatchModeKey.PROXY  # of `torch.func.linearize`
    return torch.compiler.is_compiling() or x.is_meta or torch._C._get_dispatch_mode(recorder) is not None


def for_a_kernel(variable: Sequence[Tensor], constant: Sequence[Tensor] = ()) -> bool:
    """Whether a kernel in numba may take these tensors: float32 on the CPU, and no gradient asked in the constant ones."""
    tensors = (*variable, *constant)
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    return plain and not any(x.requires_grad for x in constant) and not beyond_kernels(*tensors)


def gradient_alone(*gradients: Tensor) -> bool:
    """Within the backward pass of a kernel: whether its gradients suffice, because nobody differentiates them again."""
    return not torch.is_grad_enabled() and not beyond_kernels(*gradients)


def gradients_of_reference(
    reference: Callable[..., Tensor], inputs: Sequence[Tensor], needed: Sequence[bool], gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of a kernel's inputs by torch code that equals it; they can be differentiated again.

    Args:
        reference: of the inputs.
        inputs: as the kernel's forward pass saved them.
        needed: `ctx.needs_input_grad` of the same.
        gradient: of the output.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad(), no_autocast():
        output = reference(*inputs)
        wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
        found = iter(torch.autograd.grad(output, wanted, gradient, create_graph=again))
    return tuple(next(found) if need else None for need in needed)


def unwrapped(x: Tensor) -> Tensor:
    """The numbers behind a tensor that `torch.func` transforms, all of a batch: a check may look at them, `vmap` may not."""
    while _is_wrapped(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.detach()


def require_one_dtype(**tensors: Tensor) -> None:
    """Raise ValueError, which names the tensors, if they differ in dtype."""
    if len({x.dtype for x in tensors.values()}) > 1:
        got = ", ".join(f"{name} {str(x.dtype).removeprefix('torch.')}" for name, x in tensors.items())
        raise ValueError(f"wanted one dtype, got {got}; convert with x.to(dtype), a hand with hand.to(dtype)")


# -- precision ------------------------------------------------------------------------------------------------------------


def full_precision(function: Callable) -> Callable:
    """A decorator: under autocast the function computes as without, and takes half-precision tensors in float32.

    A matrix product in bfloat16 rounds 600 mm to 4 mm.
    """

    @wraps(function)
    def computed(*arguments, **options):
        if not autocast_devices():
            return function(*arguments, **options)
        with no_autocast():
            options = {name: _in_float32(value) for name, value in options.items()}
            return function(*map(_in_float32, arguments), **options)

    return computed


def _in_float32(value: object) -> object:
    halved = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if halved else value


def autocast_devices() -> list[str]:
    """Kinds of devices on which autocast is on."""
    return [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]


@contextmanager
def no_autocast() -> Iterator[None]:
    """Without autocast, wherever it is on."""
    with ExitStack() as off:
        for device in autocast_devices():
            off.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def for_every_use() -> Iterator[None]:
    """For tensors that are made once and kept: who asks first may be in autocast, inference mode or a transform, others not.

    What names no device is made on the CPU, whatever `torch.set_default_device` says: numpy and numba are to read it.
    """
    if torch.compiler.is_compiling():  # nothing is kept of what a graph records
        yield
        return
    with ExitStack() as outside:
        if transformed():
            outside.enter_context(temporarily_clear_interpreter_stack())
        outside.enter_context(torch.inference_mode(False))
        outside.enter_context(no_autocast())
        if torch.get_default_device().type != "cpu":
            outside.enter_context(torch.device("cpu"))
        yield


class kept_property(cached_property):
    """A cached property of a dataclass, made by `for_every_use`, or within the transform of which the object is itself."""

    def __init__(self, function: Callable):
        @wraps(function)
        def made(owner):
            if transformed() and any(_is_wrapped(part) for part in vars(owner).values()):
                return full_precision(function)(owner)
            with for_every_use():
                return function(owner)

        super().__init__(made)

    def __get__(self, owner: object, kind: type | None = None):
        # a graph that is recorded records this, too; it cannot keep anything
        return self.func(owner) if torch.compiler.is_compiling() else super().__get__(owner, kind)


def _is_wrapped(x: object) -> bool:
    return isinstance(x, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(x)
