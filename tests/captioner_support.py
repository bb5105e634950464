"""Captioners of transformers' real classes with a few thousand random weights, saved as a repository's files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = [
    "this",
    "is",
    "a",
    "photo",
    "of",
    ".",
    "question",
    ":",
    "answer",
    "describe",
    "the",
    "main",
    "object",
    "in",
    "picture",
    "briefly",
    "images",
    "'",
    "name",
    "user",
    "assistant",
    "cat",
    "dog",
    "c00",
    "c01",
    "c02",
    "red",
    "green",
    "blue",
    "round",
    "flat",
    "small",
    "big",
    "with",
    "and",
    "on",
    "under",
    "near",
    "old",
    "new",
    "wooden",
]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>",
           "<|vision_end|>", "<|im_start|>", "<|im_end|>"]  # fmt: skip
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
SIZE = 64  # of the embeddings: more than there are words, as in real models
LLAVA_CHAT = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(**extra: Any) -> Any:
    """Lower-case words as tokens, a start ahead of them."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=SPECIAL[4:], **extra,
    )  # fmt: skip


TEXT = {
    "vocab_size": SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 256,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "image_size": 28, "patch_size": 14}  # fmt: skip


def blip2(folder: Path, *, language: str = "opt") -> Any:
    """BLIP-2 with OPT (a decoder, as blip2-opt-2.7b has it) or T5 (an encoder-decoder, as blip2-flan-t5-xl)."""
    import transformers as tf

    if language == "opt":
        text: Any = tf.OPTConfig(**TEXT, ffn_dim=64, word_embed_proj_dim=32)
    else:
        text = tf.T5Config(
            vocab_size=SIZE, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=3,
            decoder_start_token_id=0, bos_token_id=2,
        )  # fmt: skip
    former = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
              "encoder_hidden_size": 32, "vocab_size": SIZE}  # fmt: skip
    config = tf.Blip2Config(
        vision_config=VISION, qformer_config=former, text_config=text.to_dict(), num_query_tokens=4, image_token_index=4
    )
    model = tf.Blip2ForConditionalGeneration(config)
    image = tf.BlipImageProcessor(size={"height": 28, "width": 28})
    return saved(folder, model, tf.Blip2Processor(image, tiny_tokenizer(), num_query_tokens=4))


def llava(folder: Path, *, template: str | None = LLAVA_CHAT) -> Any:
    """LLaVA-1.5: CLIP's image tower, a projector, Llama."""
    import transformers as tf

    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**VISION, projection_dim=32),
        text_config=tf.LlamaConfig(**TEXT, intermediate_size=64, num_key_value_heads=4),
        image_token_index=4, image_seq_length=4,
    )  # fmt: skip
    image = tf.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = tf.LlavaProcessor(
        image, tiny_tokenizer(), patch_size=14, vision_feature_select_strategy="default", chat_template=template,
        image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip
    return saved(folder, tf.LlavaForConditionalGeneration(config), processor)


def qwen2_vl(folder: Path) -> Any:
    """Qwen2-VL: pictures of any size, rotary positions in space."""
    import transformers as tf

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = tf.Qwen2VLConfig(
        text_config={**TEXT, "intermediate_size": 64, "num_key_value_heads": 2, "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 14},
        image_token_id=5, video_token_id=6, vision_start_token_id=7, vision_end_token_id=8,
    )  # fmt: skip
    pixels = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
    processor = tf.Qwen2VLProcessor(
        tf.Qwen2VLImageProcessor(size=pixels), tiny_tokenizer(), tf.Qwen2VLVideoProcessor(), chat_template=QWEN_CHAT
    )
    return saved(folder, tf.Qwen2VLForConditionalGeneration(config), processor)


def saved(folder: Path, model: Any, processor: Any) -> Any:
    """Save a model whose words depend on the picture; weights are spread wider than at initialisation for that."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if value.ndim > 1 or "class_embedding" in name:
            value.data = torch.randn(value.shape, generator=generator) * (1.0 if "query_tokens" in name else 0.35)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 3, 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval()
