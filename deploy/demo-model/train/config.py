"""Shape of the demo model: Gemma 4's architecture, small. Writes config.json and its companions."""
import json
from pathlib import Path

BUDGETS = (70, 140, 280, 560, 1120)      # soft tokens an image may take
PATCH, POOL = 16, 3                      # pixels a patch side, patches a pooled side
CONTROL_TOKENS = [
    '<pad>', '<eos>', '<bos>', '<unk>', '<mask>', '<|tool>', '<tool|>', '<|tool_call>', '<tool_call|>',
    '<|tool_response>', '<tool_response|>', '<|"|>', '<|think|>', '<|channel>', '<channel|>', '<|turn>',
    '<turn|>', '<|image>', '<|audio>', '<|image|>', '<|audio|>', '<image|>', '<audio|>', '<|video|>']
ID = {name: i for i, name in enumerate(CONTROL_TOKENS)}

VOCAB_SIZE = 2560
TEXT = dict(
    model_type='gemma4_text', dtype='bfloat16', vocab_size=VOCAB_SIZE, hidden_size=256, intermediate_size=256,
    num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, head_dim=64, global_head_dim=128,
    num_global_key_value_heads=1, attention_k_eq_v=True, attention_bias=False, attention_dropout=0.0,
    hidden_activation='gelu_pytorch_tanh', max_position_embeddings=32768, rms_norm_eps=1e-6, sliding_window=128,
    layer_types=['sliding_attention', 'sliding_attention', 'full_attention'] * 2,
    rope_parameters={
        'sliding_attention': {'rope_type': 'default', 'rope_theta': 10000.0},
        'full_attention': {'rope_type': 'proportional', 'partial_rotary_factor': 0.25, 'rope_theta': 1000000.0}},
    final_logit_softcapping=30.0, use_bidirectional_attention='vision', hidden_size_per_layer_input=0,
    vocab_size_per_layer_input=VOCAB_SIZE, num_kv_shared_layers=0, enable_moe_block=True, use_double_wide_mlp=False,
    num_experts=16, top_k_experts=4, moe_intermediate_size=48, tie_word_embeddings=True, initializer_range=0.02,
    pad_token_id=ID['<pad>'], eos_token_id=ID['<eos>'], bos_token_id=ID['<bos>'], use_cache=True)
VISION = dict(
    model_type='gemma4_vision', dtype='bfloat16', hidden_size=128, intermediate_size=256, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, head_dim=32, hidden_activation='gelu_pytorch_tanh',
    rms_norm_eps=1e-6, attention_bias=False, attention_dropout=0.0, patch_size=PATCH, pooling_kernel_size=POOL,
    rope_parameters={'rope_type': 'axial', 'rope_theta': 100.0}, position_embedding_size=1024,
    default_output_length=280, max_position_embeddings=131072, use_clipped_linears=False, standardize=True,
    initializer_range=0.02)
TOP = dict(
    architectures=['Gemma4ForConditionalGeneration'], model_type='gemma4', dtype='bfloat16', audio_config=None,
    boi_token_id=ID['<|image>'], eoi_token_id=ID['<image|>'], image_token_id=ID['<|image|>'],
    video_token_id=ID['<|video|>'], boa_token_id=ID['<|audio>'], eoa_token_index=ID['<audio|>'],
    audio_token_id=ID['<|audio|>'], vision_soft_tokens_per_image=280, tie_word_embeddings=True,
    initializer_range=0.02, text_config=TEXT, vision_config=VISION)
STOP_IDS = [ID['<eos>'], ID['<turn|>'], ID['<|tool_response>']]


def write_companions(out: Path) -> None:
    """Everything of the published format but the weights and tokenizer.json."""
    def write(name, value):
        (out / name).write_text(json.dumps(value, indent=1) + '\n')
    out.mkdir(parents=True, exist_ok=True)
    write('config.json', TOP)
    write('generation_config.json', dict(
        bos_token_id=ID['<bos>'], pad_token_id=ID['<pad>'], eos_token_id=STOP_IDS, do_sample=True,
        temperature=1.0, top_k=64, top_p=0.95))
    write('tokenizer_config.json', dict(
        tokenizer_class='GemmaTokenizer', bos_token='<bos>', eos_token='<eos>', pad_token='<pad>', unk_token='<unk>',
        boi_token='<|image>', eoi_token='<image|>', image_token='<|image|>', audio_token='<|audio|>',
        boa_token='<|audio>', eoa_token='<audio|>'))
    pictures = dict(patch_size=PATCH, pooling_kernel_size=POOL, do_resize=True, do_rescale=True, do_normalize=False, rescale_factor=1 / 255)
    write('processor_config.json', dict(
        processor_class='Gemma4Processor', image_seq_length=280,
        image_processor=dict(image_processor_type='Gemma4ImageProcessor', max_soft_tokens=280, **pictures),
        video_processor=dict(video_processor_type='Gemma4VideoProcessor', max_soft_tokens=70, num_frames=32, **pictures),
        # There is no audio tower; AutoProcessor asks for the name all the same.
        feature_extractor=dict(feature_extractor_type='Gemma4AudioFeatureExtractor')))
