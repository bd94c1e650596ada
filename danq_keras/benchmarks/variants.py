"""`benchmark.py variants`: alleles a second of scoring a VCF file, against the network alone."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danq_keras.benchmarks.options import option
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import decode
from danq_keras.recipes.presets import get_preset
from danq_keras.system.errors import InputError
from danq_keras.system.tensorflow import start_tensorflow

if TYPE_CHECKING:
    from danq_keras.variants.scorer import VariantScorer
    from danq_keras.variants.windows import VariantBlock, WindowCutter


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    preset: str = option("danq", "network (random weights)")
    variants: int = option(400, "random SNVs")
    batch_size: int = option(200, "windows at once")
    genome_length: int = option(1_000_000, "bases of the random genome")


def run(options: Options) -> int:
    """Score random SNVs of a random genome into an .h5 file, then predict as many windows.

    Raises:
        InputError: no variants, or a genome too short for a window.
    """
    preset = get_preset(options.preset)
    if options.variants < 1 or options.genome_length < 2 * preset.model.window:
        raise InputError(
            f"`variants`: at least 1; `genome_length`: at least {2 * preset.model.window}. "
            f"Received: {options.variants}, {options.genome_length}."
        )
    start_tensorflow()
    from danq_keras.genome.fasta import Genome
    from danq_keras.models.networks import build_network
    from danq_keras.models.trained import TrainedModel
    from danq_keras.variants.scorer import VariantScorer
    from danq_keras.variants.vcf import VcfFile
    from danq_keras.variants.windows import WindowCutter

    names = tuple(str(number) for number in range(preset.model.n_targets))
    model = TrainedModel(build_network(preset.model), Targets(names), Path(options.preset), {})
    scorer = VariantScorer(model)
    with tempfile.TemporaryDirectory() as folder:
        fasta, vcf = Path(folder) / "genome.fa", Path(folder) / "variants.vcf"
        _write_inputs(fasta, vcf, options, preset.model.window)
        with Genome(fasta) as genome:
            cutter = WindowCutter(genome, preset.model.window)
            blocks = list(cutter.blocks(VcfFile(vcf).records(), options.batch_size))
            alone = _network_alone(scorer, blocks)
            scorer.seconds = 0.0
            seconds = _through(scorer, cutter, vcf, Path(folder) / "effects.h5", options)
    rate = options.variants / seconds
    print(
        f"{options.variants:,} SNVs × {len(names)} targets, both strands, VCF to .h5, batches of "
        f"{options.batch_size}: {rate:,.1f} variants/s, {100 * scorer.seconds / seconds:.1f} % of "
        "the time inside the network"
    )
    print(f"network alone, windows in memory: {alone:,.1f} variants/s")
    print(f"ratio  {rate / alone:.2f} x")
    return 0


def _write_inputs(fasta: Path, vcf: Path, options: Options, window: int) -> None:
    """A random genome of one sequence, and SNVs in order of position."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, options.genome_length, dtype=np.uint8)
    letters = decode(codes)
    lines = (letters[i : i + 80] for i in range(0, len(letters), 80))
    fasta.write_text(">chr1\n" + "\n".join(lines) + "\n")
    positions = np.sort(
        rng.integers(window, options.genome_length - window, options.variants)
    ).tolist()
    changed = decode((codes[positions] + rng.integers(1, 4, options.variants, dtype=np.uint8)) % 4)
    with vcf.open("w") as file:
        file.write("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for position, alt in zip(positions, changed, strict=True):
            file.write(f"chr1\t{position + 1}\t.\t{letters[position]}\t{alt}\t.\t.\t.\n")


def _network_alone(scorer: "VariantScorer", blocks: "list[VariantBlock]") -> float:
    """Variants a second when the windows are in memory and nothing is written; compiles first."""
    scorer.score(blocks[0])
    begin = time.perf_counter()
    for block in blocks:
        scorer.score(block)
    return sum(len(block.alleles) for block in blocks) / (time.perf_counter() - begin)


def _through(
    scorer: "VariantScorer",
    cutter: "WindowCutter",
    vcf: Path,
    out: Path,
    options: Options,
) -> float:
    """Seconds from the VCF file to the file of effects."""
    from danq_keras.variants.files import EffectsHeader
    from danq_keras.variants.growing import growing_effects
    from danq_keras.variants.vcf import VcfFile

    header = EffectsHeader(
        targets=scorer.targets,
        chosen=tuple(range(len(scorer.targets))),
        n_alleles=options.variants,
        with_evalues=False,
        with_probs=False,
        attributes={"source": str(vcf)},
    )
    begin = time.perf_counter()
    with growing_effects(out, header, request={}) as effects:
        for scored in scorer(cutter.blocks(VcfFile(vcf).records(), options.batch_size)):
            effects.write(scored)
    return time.perf_counter() - begin
