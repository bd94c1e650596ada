"""A region of a chromosome as users write it."""

from dataclasses import dataclass

from danq_keras.system.errors import InputError


@dataclass(frozen=True)
class Region:
    """A chromosome, or the part [start, end) of it; `end` is None for all the rest."""

    chrom: str
    start: int = 0
    end: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Read CHROM or CHROM:START-END, 1-based and inclusive, commas in numbers allowed.

        Raises:
            InputError: the text is neither.
        """
        chrom, colon, numbers = text.strip().rpartition(":")
        if not colon:
            chrom, numbers = numbers, ""
        start, dash, end = numbers.replace(",", "").partition("-")
        well_formed = start.isdecimal() and end.isdecimal() and 1 <= int(start) <= int(end)
        if not chrom or (colon and not (dash and well_formed)):
            raise InputError(
                "A region is CHROM or CHROM:START-END, 1-based and inclusive, such as "
                f"chr7:30,508,751-35,296,850. Received: {text!r}."
            )
        return cls(chrom, int(start) - 1, int(end)) if colon else cls(chrom)
