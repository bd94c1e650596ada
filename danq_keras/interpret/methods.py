"""The methods of attribution: their names, and what their values mean; light.

Each gives an array (..., W, 4) of a window, a value for each base at each position:

- `effects`, in-silico mutagenesis: the score with that base in place minus the score as it is.
- `gradients`: the derivative of the score by the one-hot window.
- `integrated`, integrated gradients: derivatives along the way from an empty window (no base
  anywhere) to this one. Source: Sundararajan et al., ICML 2017.
- `expected`, expected gradients: the same from shuffles of the window, averaged over them. Source:
  Erion et al., Nat. Mach. Intell. 3:620, 2021; the shuffles as DeepLIFT is used in genomics.

Contributions of the last two add up over a window to its score minus that of where the way began.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from danq_keras.genome.dna import Bytes, onehot_from_codes
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError


@dataclass(frozen=True)
class Method:
    """A method of attribution under its names.

    `name` in Python and of the arrays in HDF5; `flag` on the command line and in file names;
    `column` in tables; `label` in pictures.
    """

    name: str
    flag: str
    column: str
    label: str


METHODS = {
    method.name: method
    for method in (
        Method("effects", "ism", "contribution", "contribution\n(logit)"),
        Method("gradients", "gradient", "gradient_x_input", "gradient\n× input"),
        Method("integrated", "integrated", "integrated_gradient", "integrated\ngradient"),
        Method("expected", "expected", "expected_gradient", "expected\ngradient"),
    )
}
OF_FLAG = {method.flag: name for name, method in METHODS.items()}
"""Flag → name."""
SUMMED = ("integrated", "expected")
"""Methods whose contributions have a known sum; their values are hypothetical contributions."""
PREFERRED = ("effects", "expected", "integrated", "gradients")
"""Of several, the one that is meant by contributions: the first of these."""


@dataclass(frozen=True)
class Ways:
    """How many gradients `expected` and `integrated` take.

    Attributes:
        backgrounds: shuffles of a window, from which expected gradients begin.
        points: gradients along each way; None for 50 of the single way of integrated gradients and
            10 of each way of expected ones.
        seed: number from which, with the window itself, its shuffles are drawn; so they do not
            depend on the other windows.
    """

    backgrounds: int = 20
    points: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("backgrounds", 2), ("points", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"`{name}`: at least {least}. Received: {value}.")


def methods_of_flags(text: str) -> tuple[str, ...]:
    """Names of the methods that `--method` asks for.

    Args:
        text: flags separated by commas; "both" is ism,gradient.

    Raises:
        InputError: one is unknown.
    """
    words = ["ism", "gradient"] if text == "both" else text.split(",")
    unknown = [word for word in words if word not in OF_FLAG]
    if unknown:
        raise InputError(
            f"--method: some of {', '.join(OF_FLAG)}, separated by commas, or both (ism,gradient). "
            f"Received: {text!r}."
        )
    return tuple(name for flag, name in OF_FLAG.items() if flag in words)


def chosen_methods(method: str | Sequence[str]) -> tuple[str, ...]:
    """Names of methods as Python gives them, in the order of `METHODS`.

    Raises:
        InputError: none, or one is unknown.
    """
    names = (method,) if isinstance(method, str) else tuple(method)
    if not names or not set(names) <= set(METHODS):
        raise InputError(f"`method`: some of {', '.join(METHODS)}. Received: {method!r}.")
    return tuple(name for name in METHODS if name in names)


def centred(values: Floats) -> Floats:
    """Values (..., 4) minus their mean over the bases."""
    return values - values.mean(axis=-1, keepdims=True)


def hypothetical(name: str, values: Floats) -> Floats:
    """What each base would contribute at each position, (..., W, 4), as TF-MoDISco takes it.

    Of effects and gradients their mean over the bases is taken away. Source: the correction of
    gradients by Majdandzic et al., Genome Biology 24:109, 2023; for effects it is the same thing.
    The other methods give hypothetical contributions themselves.
    """
    return values if name in SUMMED else centred(values)


def of_the_base(values: Floats, codes: Bytes) -> Floats:
    """Of values (..., W, 4) those of the bases `codes` (W,): (..., W); 0 for unknown bases.

    Of gradients it is gradient × input.
    """
    picked: Floats = (values * onehot_from_codes(codes)).sum(axis=-1)
    return picked


def contributions(name: str, values: Floats, codes: Bytes) -> Floats:
    """What the base that is there contributes, (..., W): of its hypothetical contributions."""
    return of_the_base(hypothetical(name, values), codes)


def shown(name: str, values: Floats, codes: Bytes) -> Floats:
    """What tables and pictures show of a method (..., W): contributions, or gradient × input."""
    if name == "gradients":
        return of_the_base(values, codes)
    return contributions(name, values, codes)


def preferred(values: Iterable[str]) -> str:
    """The method of some that contributions are taken from."""
    present = set(values)
    return next(name for name in PREFERRED if name in present)
