"""Vision, audio and multimodal models of transformers."""

from __future__ import annotations

from typing import Any

import torch
from _building import Made, Outputs, image, import_torchvision, tokens

_VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _vision(full: bool, name: str, size: int = 224, head: str = "Model", **small: Any) -> Made:
    import_torchvision()
    import transformers

    config = getattr(transformers, f"{name}Config")(**({} if full else {**_VISION, **small}))
    model = getattr(transformers, f"{name}{head}")(config)
    return Outputs(model), {"pixel_values": image(size if full else 32)}


def vit(full: bool = False) -> Made:
    return _vision(full, "ViT")


def dinov2(full: bool = False) -> Made:
    return _vision(full, "Dinov2")


def dpt(full: bool = False) -> Made:
    """Dense depth from a vision transformer: tokens reassembled at four scales."""
    return _vision(
        full, "DPT", 384, "ForDepthEstimation", backbone_out_indices=[0, 1, 2, 3], num_hidden_layers=4,
        neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
    )  # fmt: skip


def segformer(full: bool = False) -> Made:
    import_torchvision()
    import transformers

    small = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16}
    config = transformers.SegformerConfig(**({} if full else small))
    return Outputs(transformers.SegformerForSemanticSegmentation(config)), {"pixel_values": image(512 if full else 64)}


def sam(full: bool = False) -> Made:
    """Segment anything: windowed attention with decomposed relative positions, prompts, mask decoder."""
    import_torchvision()
    import transformers

    if full:
        config = transformers.SamConfig()
    else:
        config = transformers.SamConfig(
            vision_config={
                **_VISION, "image_size": 64, "mlp_dim": 64, "output_channels": 16, "global_attn_indexes": [1],
                "window_size": 3, "num_pos_feats": 8,
            },
            prompt_encoder_config={
                "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4,
                "image_embedding_size": 8,
            },
            mask_decoder_config={
                "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "iou_head_hidden_dim": 16,
            },
        )  # fmt: skip
    size = 1024 if full else 64
    points = torch.rand(1, 1, 2, 2) * size
    return Outputs(transformers.SamModel(config)), {"pixel_values": image(size, 1), "input_points": points}


def detr(full: bool = False) -> Made:
    """Detection by queries: a transformer over the features of a convolutional backbone."""
    import_torchvision()
    import transformers

    backbone = transformers.ResNetConfig(
        **({} if full else {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}),
        out_features=["stage4" if full else "stage2"],
    )
    small = {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 5,
    }  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        **({} if full else small),
    )  # fmt: skip
    pixels = image(800 if full else 64, 1)
    mask = torch.ones(pixels.shape[0], *pixels.shape[2:], dtype=torch.int64)
    return Outputs(transformers.DetrForObjectDetection(config)), {"pixel_values": pixels, "pixel_mask": mask}


def _two_towers(full: bool, name: str, **small: Any) -> Made:
    import_torchvision()
    import transformers

    if full:
        config = getattr(transformers, f"{name}Config")()
        length, size, vocabulary = config.text_config.max_position_embeddings, 224, config.text_config.vocab_size
    else:
        config = getattr(transformers, f"{name}Config")(text_config=_TEXT, vision_config=_VISION, **small)
        length, size, vocabulary = 8, 32, 96
    ids = tokens(2, length, vocabulary)
    return Outputs(getattr(transformers, f"{name}Model")(config)), {"input_ids": ids, "pixel_values": image(size)}


def clip(full: bool = False) -> Made:
    return _two_towers(full, "CLIP", projection_dim=16)


def siglip(full: bool = False) -> Made:
    return _two_towers(full, "Siglip")


def blip(full: bool = False) -> Made:
    """Captioning: a text decoder that attends to image tokens."""
    import_torchvision()
    import transformers

    text = {**_TEXT, "encoder_hidden_size": 32}
    config = transformers.BlipConfig(**({} if full else {"text_config": text, "vision_config": _VISION}))
    vocabulary = config.text_config.vocab_size
    inputs = {"pixel_values": image(384 if full else 32, 1), "input_ids": tokens(1, 8, vocabulary)}
    return Outputs(transformers.BlipForConditionalGeneration(config)), inputs


# -- audio --------------------------------------------------------------------------------------------------------------


def whisper(full: bool = False) -> Made:
    import_torchvision()
    import transformers

    small = {
        "vocab_size": 96, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 16,
        "max_target_positions": 16, "num_mel_bins": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }  # fmt: skip
    config = transformers.WhisperConfig(**({} if full else small), use_cache=False)
    frames = 2 * config.max_source_positions
    features = torch.randn(1, config.num_mel_bins, frames)
    ids = tokens(1, 8, config.vocab_size)
    model = transformers.WhisperForConditionalGeneration(config)
    return Outputs(model), {"input_features": features, "decoder_input_ids": ids}


def _waveform(full: bool, name: str) -> Made:
    import_torchvision()
    import transformers

    small = {
        "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "conv_dim": (8, 8, 8), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    }  # fmt: skip
    config = getattr(transformers, f"{name}Config")(**({} if full else small))
    return Outputs(getattr(transformers, f"{name}Model")(config)), {
        "input_values": torch.randn(1, 16000 if full else 400)
    }


def wav2vec2(full: bool = False) -> Made:
    return _waveform(full, "Wav2Vec2")


def hubert(full: bool = False) -> Made:
    return _waveform(full, "Hubert")


def wav2vec2_conformer(full: bool = False) -> Made:
    """Convolution-augmented transformer with relative positions."""
    return _waveform(full, "Wav2Vec2Conformer")


def audio_spectrogram(full: bool = False) -> Made:
    import_torchvision()
    import transformers

    small = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_length": 24,
        "num_mel_bins": 16, "patch_size": 8, "time_stride": 4, "frequency_stride": 4,
    }  # fmt: skip
    config = transformers.ASTConfig(**({} if full else small))
    features = torch.randn(1, config.max_length, config.num_mel_bins)
    return Outputs(transformers.ASTModel(config)), {"input_values": features}


# -- time series --------------------------------------------------------------------------------------------------------


def patch_tst(full: bool = False) -> Made:
    import_torchvision()
    import transformers

    small = {"d_model": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "ffn_dim": 32}
    shape = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8}
    config = transformers.PatchTSTConfig(**({} if full else {**small, **shape}))
    values = torch.randn(2, config.context_length, config.num_input_channels)
    return Outputs(transformers.PatchTSTForPrediction(config)), {"past_values": values}
