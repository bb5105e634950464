"""The command about language: captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainalign.cli import common as c


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: brainalign captions things-eeg2 --root DATA --captioner blip2 --prompt A "
        "--out captions.csv | "
        "brainalign captions OWN --captioner hf:/models/llava --prompt 'Name the object' --out captions.jsonl"
    )(captions)


def captions(
    dataset: Annotated[str, typer.Argument(help="Name, or a folder of own recordings.")],
    captioner: Annotated[
        str, typer.Option(help="blip2, llava-1.5, qwen2-vl, hf:ORG/NAME[?revision=COMMIT] or hf:/path/to/folder.")
    ],
    prompt: Annotated[
        str,
        typer.Option(
            help="A, B or C of NeuroAlign, or a text: a question, or a beginning that ends in '...'. "
            "{concept} is filled in."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write: .csv, .tsv or .jsonl.")],
    root: c.Root = None,
    subject: c.Subject = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length at which a caption is cut.")] = 40,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest word; above: words are drawn.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draws.", min=0)] = 0,
    dtype: Annotated[
        str, typer.Option(help="auto (float32 on CPUs, else bfloat16), float32, bfloat16, float16.")
    ] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures at a time; by default what fits into memory.")
    ] = None,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Describe every image with a vision-language model; a killed run goes on where it stopped."""
    from brainalign.execution.captions import make_captions
    from brainalign.stimuli.captioners import Decoding

    facts = make_captions(
        dataset,
        captioner=captioner,
        prompt=prompt,
        out=out,
        root=root,
        subject=subject,
        decoding=Decoding(max_new_tokens, temperature, seed),
        dtype=dtype,
        batch_size=batch_size,
        device=device,
        cache=cache,
        reporter=c.reporter(quiet),
    )
    c.emit(facts) if json else [print(f"{key:12} {value}") for key, value in facts.items()]
