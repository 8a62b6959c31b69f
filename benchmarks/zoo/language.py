"""Language models of transformers: dense, mixtures of experts, state spaces, encoders, encoder-decoders.

The published width is built with two layers (one period of the pattern where layers differ): more layers of the same kind
change no share.
"""

from __future__ import annotations

from typing import Any

import torch
from _building import Made, Outputs, import_torchvision, tokens

#: Arguments that make most decoders small.
SMALL: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
}  # fmt: skip


def _decoder(full: bool, name: str, published: dict[str, Any] | None = None, **small: Any) -> Made:
    """Return ``{name}ForCausalLM`` and a call of it with a mask that pads one sequence on the left."""
    import_torchvision()
    import transformers

    config_class = getattr(transformers, f"{name}Config")
    if full:
        config = config_class(**{"num_hidden_layers": 2, "use_cache": False, **(published or {})})
        batch, length = 1, 512
    else:
        config = config_class(**{**SMALL, "use_cache": False, **small})
        batch, length = 2, 10
    model = getattr(transformers, f"{name}ForCausalLM" if name != "GPT2" else "GPT2LMHeadModel")(config)
    vocabulary = config.get_text_config().vocab_size
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, :3] = 0
    return Outputs(model), {"input_ids": tokens(batch, length, vocabulary), "attention_mask": mask}


def _without(*names: str, **more: Any) -> dict[str, Any]:
    return {**{k: v for k, v in SMALL.items() if k not in names}, **more}


# -- dense --------------------------------------------------------------------------------------------------------------


def llama(full: bool = False) -> Made:
    return _decoder(full, "Llama", {"num_key_value_heads": 8})


def qwen2(full: bool = False) -> Made:
    return _decoder(full, "Qwen2")


def qwen3(full: bool = False) -> Made:
    return _decoder(full, "Qwen3", head_dim=8)


def mistral(full: bool = False) -> Made:
    return _decoder(full, "Mistral", sliding_window=4)


def gemma2(full: bool = False) -> Made:
    return _decoder(full, "Gemma2", head_dim=8, sliding_window=4, query_pre_attn_scalar=8)


def gemma3(full: bool = False) -> Made:
    import_torchvision()
    import transformers

    if full:
        config = transformers.Gemma3TextConfig(num_hidden_layers=6, use_cache=False)
    else:
        config = transformers.Gemma3TextConfig(
            **SMALL, head_dim=8, sliding_window=4, query_pre_attn_scalar=8, use_cache=False,
            layer_types=["sliding_attention", "full_attention"],
        )  # fmt: skip
    ids = tokens(1 if full else 2, 512 if full else 10, config.vocab_size)
    return Outputs(transformers.Gemma3ForCausalLM(config)), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def phi3(full: bool = False) -> Made:
    return _decoder(full, "Phi3")


def gpt2(full: bool = False) -> Made:
    return _decoder(full, "GPT2", {"n_layer": 2}, n_embd=32, n_layer=2, n_head=4, n_positions=64)


def gpt_neo(full: bool = False) -> Made:
    return _decoder(
        full, "GPTNeo", {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
        num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=4,
    )  # fmt: skip


def gpt_neox(full: bool = False) -> Made:
    return _decoder(full, "GPTNeoX")


def gptj(full: bool = False) -> Made:
    return _decoder(full, "GPTJ", {"n_layer": 2}, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4)


def opt(full: bool = False) -> Made:
    return _decoder(full, "OPT", ffn_dim=64, word_embed_proj_dim=32)


def bloom(full: bool = False) -> Made:
    return _decoder(full, "Bloom", {"n_layer": 2, "hidden_size": 1024, "n_head": 16}, n_layer=2, n_head=4)


def falcon(full: bool = False) -> Made:
    return _decoder(full, "Falcon", alibi=False, new_decoder_architecture=True, num_kv_heads=2)


def mpt(full: bool = False) -> Made:
    return _decoder(full, "Mpt", {"n_layers": 2}, d_model=32, n_heads=4, n_layers=2, max_seq_len=64)


def olmo2(full: bool = False) -> Made:
    return _decoder(full, "Olmo2")


def stablelm(full: bool = False) -> Made:
    return _decoder(full, "StableLm")


def cohere(full: bool = False) -> Made:
    return _decoder(full, "Cohere")


def granite(full: bool = False) -> Made:
    return _decoder(full, "Granite", embedding_multiplier=2.0, residual_multiplier=0.5, logits_scaling=3.0)


# -- mixtures of experts ------------------------------------------------------------------------------------------------


def mixtral(full: bool = False) -> Made:
    return _decoder(full, "Mixtral", num_local_experts=4)


def qwen3_moe(full: bool = False) -> Made:
    return _decoder(
        full, "Qwen3Moe", head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
    )  # fmt: skip


def olmoe(full: bool = False) -> Made:
    return _decoder(full, "Olmoe", num_experts=4, num_experts_per_tok=2)


def deepseek_v3(full: bool = False) -> Made:
    return _decoder(
        full, "DeepseekV3", {"first_k_dense_replace": 1},
        moe_intermediate_size=16, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1,
        first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
        num_key_value_heads=4,
    )  # fmt: skip


def gpt_oss(full: bool = False) -> Made:
    """Attention sinks, clamped gates, experts with biases."""
    return _decoder(full, "GptOss", head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=4)


# -- state spaces and linear recurrences --------------------------------------------------------------------------------


def _state_space(full: bool, name: str, published: dict[str, Any], **small: Any) -> Made:
    import_torchvision()
    import transformers

    config = getattr(transformers, f"{name}Config")(**(published if full else small), use_cache=False)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    return Outputs(model, use_cache=False), {"input_ids": tokens(1, 16, config.vocab_size)}


def mamba(full: bool = False) -> Made:
    return _state_space(
        full, "Mamba", {"num_hidden_layers": 2}, vocab_size=96, hidden_size=32, state_size=8, num_hidden_layers=2
    )


def mamba2(full: bool = False) -> Made:
    return _state_space(
        full, "Mamba2", {"num_hidden_layers": 2},
        vocab_size=96, hidden_size=32, state_size=8, num_hidden_layers=2, num_heads=8, head_dim=8, n_groups=2,
        chunk_size=8,
    )  # fmt: skip


def rwkv(full: bool = False) -> Made:
    """Without the rescaling of weights, which would change parameters in the first call."""
    return _state_space(
        full, "Rwkv", {"num_hidden_layers": 2, "rescale_every": 0},
        vocab_size=96, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, context_length=32, rescale_every=0,
    )  # fmt: skip


def recurrent_gemma(full: bool = False) -> Made:
    return _state_space(
        full, "RecurrentGemma", {"num_hidden_layers": 3},
        vocab_size=96, hidden_size=32, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, lru_width=32,
        attention_window_size=8,
    )  # fmt: skip


# -- encoders -----------------------------------------------------------------------------------------------------------


def _encoder(full: bool, name: str, published: dict[str, Any] | None = None, **small: Any) -> Made:
    import_torchvision()
    import transformers

    if full:
        config = getattr(transformers, f"{name}Config")(**{"num_hidden_layers": 2, **(published or {})})
        batch, length = 1, 512
    else:
        config = getattr(transformers, f"{name}Config")(**{**_without("num_key_value_heads"), **small})
        batch, length = 2, 10
    ids = tokens(batch, length, config.vocab_size)
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    return Outputs(getattr(transformers, f"{name}Model")(config)), {"input_ids": ids, "attention_mask": mask}


def bert(full: bool = False) -> Made:
    return _encoder(full, "Bert")


def roberta(full: bool = False) -> Made:
    return _encoder(full, "Roberta", {"max_position_embeddings": 514})


def deberta_v2(full: bool = False) -> Made:
    """Disentangled attention: relative positions gathered for each pair."""
    return _encoder(
        full, "DebertaV2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=4,
    )  # fmt: skip


def distilbert(full: bool = False) -> Made:
    return _encoder(full, "DistilBert", {"n_layers": 2}, dim=32, n_layers=2, n_heads=4, hidden_dim=64)


def modernbert(full: bool = False) -> Made:
    return _encoder(full, "ModernBert", local_attention=4, global_attn_every_n_layers=2)


def albert(full: bool = False) -> Made:
    return _encoder(full, "Albert", embedding_size=16)


def mpnet(full: bool = False) -> Made:
    return _encoder(full, "MPNet")


def electra(full: bool = False) -> Made:
    return _encoder(full, "Electra", embedding_size=16)


def xlnet() -> Made:
    """Relative positions, which the model makes on the CPU wherever it is: so there is no published size on the meta device."""
    import_torchvision()
    import transformers

    config = transformers.XLNetConfig(vocab_size=96, d_model=32, n_layer=2, n_head=4, d_inner=64)
    return Outputs(transformers.XLNetModel(config), use_mems=False), {"input_ids": tokens(2, 10, config.vocab_size)}


def fnet(full: bool = False) -> Made:
    """Fourier transforms in place of attention."""
    model, inputs = _encoder(full, "FNet", {"max_position_embeddings": 512})
    return model, {"input_ids": inputs["input_ids"]}


def esm(full: bool = False) -> Made:
    """A protein language model with rotary positions."""
    return _encoder(
        full, "Esm", {"vocab_size": 33, "position_embedding_type": "rotary", "pad_token_id": 1, "mask_token_id": 32},
        position_embedding_type="rotary", mask_token_id=3,
    )  # fmt: skip


# -- encoder-decoders ---------------------------------------------------------------------------------------------------


def _pair(full: bool, name: str, published: dict[str, Any], **small: Any) -> Made:
    import_torchvision()
    import transformers

    config = getattr(transformers, f"{name}Config")(**(published if full else small), use_cache=False)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    batch, length = (1, 256) if full else (2, 7)
    source, target = tokens(batch, length, config.vocab_size), tokens(batch, length, config.vocab_size)
    return Outputs(model), {"input_ids": source, "attention_mask": torch.ones_like(source), "decoder_input_ids": target}


def t5(full: bool = False) -> Made:
    """Relative position buckets, computed from logarithms."""
    return _pair(
        full, "T5", {"num_layers": 2}, vocab_size=96, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        relative_attention_num_buckets=8, feed_forward_proj="gated-gelu",
    )  # fmt: skip


def bart(full: bool = False) -> Made:
    return _pair(
        full, "Bart", {"encoder_layers": 2, "decoder_layers": 2},
        vocab_size=96, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
    )  # fmt: skip


def pegasus(full: bool = False) -> Made:
    return _pair(
        full, "Pegasus", {"encoder_layers": 2, "decoder_layers": 2},
        vocab_size=96, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
    )  # fmt: skip
