"""A loaded captioner: pictures and prompts in, captions out, in batches that fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from brainalign.errors import InputError
from brainalign.stimuli.captioners.decoding import Decoding
from brainalign.stimuli.captioners.families import Family
from brainalign.stimuli.captioners.prompts import beginning

if TYPE_CHECKING:
    from PIL import Image

CPU_BATCH, BATCH_MAX = 4, 64
MEMORY_SHARE = 0.7  # of what is free; the rest is for longer prompts and fragmentation
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, eq=False)
class Captioner:
    """A frozen image-to-text model.

    Attributes
    ----------
    id : str
    family : Family
    model, processor
        Of transformers, in evaluation mode.
    """

    id: str
    family: Family
    model: Any
    processor: Any

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = self.model.device
        return found

    @torch.inference_mode()
    def describe(
        self, images: Sequence[Image.Image], prompts: Sequence[str], decoding: Decoding, *, seed: int | None = None
    ) -> list[str]:
        """Captions of some pictures, all in one batch.

        Parameters
        ----------
        images : sequence of n PIL images
        prompts : sequence of n str
            One a picture, nothing left to fill in.
        seed : int, optional
            Of the draws, where `decoding` draws.

        Returns
        -------
        list of n str
            Without line breaks; a prompt that is the caption's beginning stands ahead of what was added.
        """
        inputs = self.inputs(images, prompts)
        # Generation reads torch's own generator; what the caller had drawn from it stays as it was.
        devices = [] if self.device.type == "cpu" else [self.device]
        with torch.random.fork_rng(devices=devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            found = self.model.generate(**inputs, **self._options(decoding))
        texts = self.processor.tokenizer.batch_decode(_new_tokens(found, inputs), skip_special_tokens=True)
        return [_caption(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    def inputs(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> dict[str, Tensor]:
        """What the model is given, on its device."""
        texts = [self.family.word(self.processor, prompt) for prompt in prompts]
        made = self.processor(images=list(images), text=texts, padding=True, return_tensors="pt")
        dtype = self.model.dtype
        return {
            name: value.to(self.device, dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in made.items()
        }

    def _options(self, decoding: Decoding) -> dict[str, Any]:
        """How to choose words; what a repository has as its own defaults was let go when the model was loaded."""
        options: dict[str, Any] = {"max_new_tokens": decoding.max_new_tokens, "num_beams": 1, "do_sample": False}
        if decoding.temperature > 0:
            options |= {"do_sample": True, "temperature": decoding.temperature, "top_k": 0, "top_p": 1.0}
        return options

    def describe_within_memory(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        decoding: Decoding,
        *,
        batch_size: int,
        seeds: Sequence[int] | None = None,
    ) -> tuple[list[str], int]:
        """As `describe`, in smaller and smaller batches where memory runs out.

        Parameters
        ----------
        seeds : sequence of n int, optional
            Of each picture's draws. Pictures then go one by one: what is drawn must not depend on the others.

        Returns
        -------
        captions : list of str
        int
            The batch size that fitted.

        Raises
        ------
        InputError
            If not even one picture fits.
        """
        done: list[str] = []
        while len(done) < len(images):
            first = len(done)
            part = slice(first, first + (batch_size if seeds is None else 1))
            seed = None if seeds is None else seeds[first]
            found = self._try(images[part], prompts[part], decoding, seed)
            if found is not None:
                done += found
                continue
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if batch_size == 1 or seeds is not None:
                hint = "use --dtype bfloat16, fewer --max-new-tokens, or a smaller captioner"
                raise InputError("out of memory with one picture", where=self.id, hint=hint)
            batch_size //= 2
        return done, batch_size

    def _try(
        self, images: Sequence[Image.Image], prompts: Sequence[str], decoding: Decoding, seed: int | None
    ) -> list[str] | None:
        """The captions, or None where memory ran out; nothing of the attempt is left in memory."""
        try:
            return self.describe(images, prompts, decoding, seed=seed)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise InputError(f"the captioner failed ({str(error)[:160]})", where=self.id) from error

    def suggest_batch_size(self, image: Image.Image, prompt: str, decoding: Decoding) -> int:
        """Pictures that fit into the device's memory at once, measured with one; a few on CPUs."""
        if self.device.type != "cuda":
            return CPU_BATCH
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.describe_within_memory([image], [prompt], decoding, batch_size=1)
        needed = torch.cuda.max_memory_allocated(self.device) - before
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self.device)
        return batch_size_for(free, needed)


def batch_size_for(free: int, needed: int) -> int:
    """Pictures that fit into free memory, both in bytes, as a power of two.

    Examples
    --------
    >>> batch_size_for(10_000, 1000), batch_size_for(100, 1000), batch_size_for(10**9, 1)
    (4, 1, 64)
    """
    fits = max(1, int(MEMORY_SHARE * free) // max(1, needed))
    return min(BATCH_MAX, 1 << (fits.bit_length() - 1))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a device or on the host."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in OUT_OF_MEMORY)


def _new_tokens(found: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Words that were added. Decoders repeat their input ahead of them, encoder-decoders do not."""
    given = inputs["input_ids"]
    length = given.shape[1]
    return found[:, length:] if found.shape[1] >= length and torch.equal(found[:, :length], given) else found


def _caption(prompt: str, text: str) -> str:
    words, start = " ".join(text.split()), beginning(prompt)
    return f"{start} {words}" if start and words else words
