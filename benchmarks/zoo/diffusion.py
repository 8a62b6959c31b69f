"""Denoisers and autoencoders of diffusers."""

from __future__ import annotations

import torch
from _building import Made, Outputs, image, import_torchvision


def unet_conditioned(full: bool = False) -> Made:
    """The network of Stable Diffusion: convolutions, self- and cross-attention."""
    import_torchvision()
    from diffusers import UNet2DConditionModel

    if full:
        return Outputs(UNet2DConditionModel(sample_size=64, cross_attention_dim=768), return_dict=False), {
            "sample": torch.randn(1, 4, 64, 64), "timestep": torch.tensor(7),
            "encoder_hidden_states": torch.randn(1, 77, 768),
        }  # fmt: skip
    model = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return Outputs(model, return_dict=False), {
        "sample": torch.randn(2, 4, 16, 16), "timestep": torch.tensor(7),
        "encoder_hidden_states": torch.randn(2, 5, 16),
    }  # fmt: skip


def unet_unconditioned(full: bool = False) -> Made:
    import_torchvision()
    from diffusers import UNet2DModel

    small = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    model = UNet2DModel(sample_size=64 if full else 16, **({} if full else small))
    return Outputs(model, return_dict=False), {"sample": image(64 if full else 16, 1), "timestep": torch.tensor(7)}


def dit(full: bool = False) -> Made:
    import_torchvision()
    from diffusers import DiTTransformer2DModel

    small = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "norm_num_groups": 4}
    model = DiTTransformer2DModel(**({"num_layers": 4} if full else small))
    size = 32 if full else 8
    return Outputs(model, return_dict=False), {
        "hidden_states": torch.randn(2, 4, size, size), "timestep": torch.tensor([3, 5]),
        "class_labels": torch.tensor([1, 7]),
    }  # fmt: skip


def stable_diffusion_3(full: bool = False) -> Made:
    """Two streams, one for text and one for the image, that attend together."""
    import_torchvision()
    from diffusers import SD3Transformer2DModel

    small = {
        "sample_size": 8, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 16,
        "caption_projection_dim": 16, "pooled_projection_dim": 16, "in_channels": 4, "out_channels": 4,
        "pos_embed_max_size": 8,
    }  # fmt: skip
    model = SD3Transformer2DModel(**({"num_layers": 4} if full else small))
    c = model.config
    return Outputs(model, return_dict=False), {
        "hidden_states": torch.randn(1, c.in_channels, c.sample_size, c.sample_size), "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 77 if full else 5, c.joint_attention_dim),
        "pooled_projections": torch.randn(1, c.pooled_projection_dim),
    }  # fmt: skip


def flux(full: bool = False) -> Made:
    """Rotary positions over image coordinates; single- and double-stream blocks."""
    import_torchvision()
    from diffusers import FluxTransformer2DModel

    small = {
        "in_channels": 4, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 16,
        "pooled_projection_dim": 16, "axes_dims_rope": (4, 4, 8),
    }  # fmt: skip
    model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, **({} if full else small))
    c, length, text = model.config, 1024 if full else 9, 512 if full else 5
    return Outputs(model, return_dict=False), {
        "hidden_states": torch.randn(1, length, c.in_channels), "timestep": torch.tensor([0.5]),
        "encoder_hidden_states": torch.randn(1, text, c.joint_attention_dim),
        "pooled_projections": torch.randn(1, c.pooled_projection_dim), "guidance": None,
        "img_ids": torch.randint(0, 4, (length, 3)).float(), "txt_ids": torch.zeros(text, 3),
    }  # fmt: skip


def autoencoder(full: bool = False) -> Made:
    """The variational autoencoder of latent diffusion, at the mean of its posterior."""
    import_torchvision()
    from diffusers import AutoencoderKL

    down = ("DownEncoderBlock2D",) * (4 if full else 2)
    up = ("UpDecoderBlock2D",) * (4 if full else 2)
    channels = (128, 256, 512, 512) if full else (8, 16)
    model = AutoencoderKL(
        block_out_channels=channels, down_block_types=down, up_block_types=up, layers_per_block=2 if full else 1,
        norm_num_groups=32 if full else 4, sample_size=256 if full else 16,
    )  # fmt: skip
    return Outputs(model, return_dict=False), (image(256 if full else 16, 1),)
