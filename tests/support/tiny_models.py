"""Small random models of the real architectures, saved in the real layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch

_MEAN, _DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def save_clip(folder: Path, *, width: int = 32, embedding: int = 24, seed: int = 0) -> Path:
    """Save a CLIP model for pictures of 32 px whose vocabulary is the letters; return ``folder``."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(97, 123)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    start, end = len(tokens) - 2, len(tokens) - 1
    files = {
        "vocab.json": vocabulary,
        "tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77},
        "preprocessor_config.json": {
            "size": {"shortest_edge": 32},
            "crop_size": {"height": 32, "width": 32},
            "image_mean": _MEAN,
            "image_std": _DEVIATION,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    shape = {
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": embedding,
    }
    text = {
        "vocab_size": len(tokens),
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
        "max_position_embeddings": 77,
    }
    vision = {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(
        text_config={**text, **shape}, vision_config={**vision, **shape}, projection_dim=embedding
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def save_flux(folder: Path) -> Path:
    """Save a Flux pipeline that draws noise; return ``folder``."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
        T5Config,
        T5EncoderModel,
        T5TokenizerFast,
    )

    words = CLIPTokenizer.from_pretrained(save_clip(folder.with_name("words")))
    torch.manual_seed(0)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(97, 123)]
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=1,
                num_attention_heads=2, projection_dim=32, bos_token_id=52, eos_token_id=53, pad_token_id=53,
            )
        ),
        tokenizer=words,
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=2)
        ),
        tokenizer_2=T5TokenizerFast(vocab=pieces, extra_ids=0),
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
        ),
        vae=AutoencoderKL(
            sample_size=32, in_channels=3, out_channels=3, block_out_channels=(4, 4, 4, 4),
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1, latent_channels=1, norm_num_groups=1, use_quant_conv=False,
            use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5035,
        ),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
