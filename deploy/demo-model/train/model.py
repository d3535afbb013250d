"""The demo model for training: the forward pass of Gemma 4 with the parameter names of the published format, on packed
sequences. All experts are computed for every token and weighted by the router (zero outside the top k): at this size one
dense product is faster than a grouped one and gives the same result."""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from config import ID, PATCH, POOL, TEXT, VISION

compiled_flex = torch.compile(flex_attention, dynamic=False)
BLOCK = 128      # rows of a tile of the attention kernel
DTYPE = torch.bfloat16 if torch.cuda.is_available() else torch.float32     # of activations in training
H, EPS = TEXT['hidden_size'], TEXT['rms_norm_eps']


def block_mask(first, last, rule):
    """A mask for rows that see keys first[i] .. last[i] at most (both never falling with i), narrowed by `rule` inside the
    tiles: far cheaper than asking the rule about every pair."""
    n = len(first) // BLOCK
    low = first.view(n, BLOCK).amin(1) // BLOCK
    high = last.view(n, BLOCK).amax(1) // BLOCK
    count = (high - low + 1).to(torch.int32)
    index = (low[:, None] + torch.arange(n, device=first.device)).clamp(max=n - 1).to(torch.int32)
    return BlockMask.from_kv_blocks(count[None, None], index[None, None], BLOCK_SIZE=BLOCK, mask_mod=rule)


def flex(q, k, v, block_mask, enable_gqa=False):
    """Attention [1, heads, T, d] with score scale 1; without a GPU by the whole square of scores, for short batches."""
    if q.is_cuda:
        return compiled_flex(q, k, v, block_mask=block_mask, scale=1.0, enable_gqa=enable_gqa)
    at = torch.arange(q.shape[2])
    seen = block_mask.mask_mod(0, 0, at[:, None], at[None])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1.0, enable_gqa=enable_gqa)


def run_bounds(label):
    """First and last index of the run of equal labels that each element is in."""
    at = torch.arange(len(label), device=label.device)
    change = label[1:] != label[:-1]
    start = torch.cat((at[:1], torch.where(change, at[1:], 0))).cummax(0).values
    end = torch.cat((torch.where(change, at[:-1], len(label) - 1), at[-1:])).flip(0).cummin(0).values.flip(0)
    return at, start, end


def rms(x, weight=None):
    y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + EPS)
    return (y if weight is None else y * weight.float()).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, dim, value=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), value))

    def forward(self, x):
        return rms(x, self.weight)


class Linear(nn.Module):
    def __init__(self, out, inp, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, inp) * gain / math.sqrt(inp))

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


class Wrapped(nn.Module):
    """Vision linears are stored under `.linear.`."""
    def __init__(self, out, inp, gain=1.0):
        super().__init__()
        self.linear = Linear(out, inp, gain)

    def forward(self, x):
        return self.linear(x)


class Mlp(nn.Module):
    def __init__(self, dim, inner, kind):
        super().__init__()
        self.gate_proj, self.up_proj = kind(inner, dim), kind(inner, dim)
        self.down_proj = kind(dim, inner, 0.5)

    def forward(self, x):
        return self.down_proj(F.gelu(self.gate_proj(x), approximate='tanh') * self.up_proj(x))


def rotate(x, cos, sin):
    """x [heads, T, d]; pairs (i, i + d/2)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, full):
        super().__init__()
        self.full = full
        self.heads = TEXT['num_attention_heads']
        self.kv = TEXT['num_global_key_value_heads'] if full else TEXT['num_key_value_heads']
        self.dim = TEXT['global_head_dim'] if full else TEXT['head_dim']
        self.q_proj = Linear(self.heads * self.dim, H)
        self.k_proj = Linear(self.kv * self.dim, H)
        if not full:
            self.v_proj = Linear(self.kv * self.dim, H)
        self.o_proj = Linear(H, self.heads * self.dim, 0.5)
        self.q_norm, self.k_norm = Norm(self.dim, 1.5 / math.sqrt(self.dim)), Norm(self.dim)

    def forward(self, x, rope, mask):
        split = lambda y, n: y.view(-1, n, self.dim).transpose(0, 1)
        q, c = split(self.q_proj(x), self.heads), split(self.k_proj(x), self.kv)
        v = rms(c if self.full else split(self.v_proj(x), self.kv))
        q, k = rotate(self.q_norm(q), *rope), rotate(self.k_norm(c), *rope)
        y = flex(q[None], k[None], v[None], block_mask=mask, enable_gqa=True)[0]
        return self.o_proj(y.transpose(0, 1).reshape(-1, self.heads * self.dim))


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = Linear(TEXT['num_experts'], H)
        self.scale = nn.Parameter(torch.ones(H))
        self.per_expert_scale = nn.Parameter(torch.ones(TEXT['num_experts']))

    def forward(self, r):
        """-> weights [T, experts] (zero outside the top k), probabilities, the top k's mask."""
        u = rms(r).float() * self.scale * H ** -0.5
        p = (u @ self.proj.weight.float().t()).softmax(-1)
        top = p.topk(TEXT['top_k_experts'], -1)
        chosen = torch.zeros_like(p).scatter(-1, top.indices, 1.0)
        w = p * chosen
        return w / w.sum(-1, keepdim=True) * self.per_expert_scale, p, chosen


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        e, m = TEXT['num_experts'], TEXT['moe_intermediate_size']
        self.gate_up_proj = nn.Parameter(torch.randn(e, 2 * m, H) / math.sqrt(H))
        self.down_proj = nn.Parameter(torch.randn(e, H, m) * 0.5 / math.sqrt(m))

    def forward(self, x, w):
        e, m = TEXT['num_experts'], TEXT['moe_intermediate_size']
        gate, up = F.linear(x, self.gate_up_proj.to(x.dtype).flatten(0, 1)).view(-1, e, 2 * m).chunk(2, -1)
        h = F.gelu(gate, approximate='tanh') * up * w.to(x.dtype)[..., None]
        return h.flatten(1) @ self.down_proj.to(x.dtype).transpose(1, 2).reshape(e * m, H)


class Layer(nn.Module):
    def __init__(self, full):
        super().__init__()
        self.self_attn, self.mlp, self.router, self.experts = Attention(full), Mlp(H, TEXT['intermediate_size'], Linear), Router(), Experts()
        for name in ('input_layernorm', 'post_attention_layernorm', 'pre_feedforward_layernorm', 'post_feedforward_layernorm',
                     'post_feedforward_layernorm_1', 'pre_feedforward_layernorm_2', 'post_feedforward_layernorm_2'):
            setattr(self, name, Norm(H, 0.5 if name in ('post_attention_layernorm', 'post_feedforward_layernorm') else 1.0))
        self.layer_scalar = nn.Parameter(torch.ones(1))

    def forward(self, x, rope, mask):
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), rope, mask))
        d = self.post_feedforward_layernorm_1(self.mlp(self.pre_feedforward_layernorm(x)))
        w, p, chosen = self.router(x)
        e = self.post_feedforward_layernorm_2(self.experts(self.pre_feedforward_layernorm_2(x), w))
        x = (x + self.post_feedforward_layernorm(d + e)) * self.layer_scalar.to(x.dtype)
        return x, p, chosen


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        v = VISION
        self.n, self.d, dim = v['num_attention_heads'], v['head_dim'], v['hidden_size']
        self.self_attn = nn.ModuleDict({k + '_proj': Wrapped(dim, dim, 0.5 if k == 'o' else 1.0) for k in 'qkvo'})
        self.self_attn['q_norm'], self.self_attn['k_norm'] = Norm(self.d, 1.5 / math.sqrt(self.d)), Norm(self.d)
        self.mlp = Mlp(dim, v['intermediate_size'], Wrapped)
        self.input_layernorm, self.pre_feedforward_layernorm = Norm(dim), Norm(dim)
        self.post_attention_layernorm, self.post_feedforward_layernorm = Norm(dim, 0.5), Norm(dim, 0.5)

    def forward(self, x, rope, mask):
        a, h = self.self_attn, self.input_layernorm(x)
        split = lambda y: y.view(-1, self.n, self.d).transpose(0, 1)
        half = self.d // 2
        def turn(y):
            return torch.cat([rotate(y[..., i * half:(i + 1) * half], *rope[i]) for i in (0, 1)], -1)
        q, k = turn(a['q_norm'](split(a['q_proj'](h)))), turn(a['k_norm'](split(a['k_proj'](h))))
        y = flex(q[None], k[None], rms(split(a['v_proj'](h)))[None], block_mask=mask)[0]
        x = x + self.post_attention_layernorm(a['o_proj'](y.transpose(0, 1).flatten(1)))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class VisionTower(nn.Module):
    def __init__(self):
        super().__init__()
        dim = VISION['hidden_size']
        self.patch_embedder = nn.Module()
        self.patch_embedder.input_proj = Linear(dim, 3 * PATCH * PATCH)
        self.patch_embedder.position_embedding_table = nn.Parameter(torch.randn(2, VISION['position_embedding_size'], dim) * 0.1)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(VisionLayer() for _ in range(VISION['num_hidden_layers']))
        self.register_buffer('std_bias', torch.zeros(dim))
        self.register_buffer('std_scale', torch.full((dim,), dim ** -0.5))

    def forward(self, patches, x, y, image, cell, num_cells):
        """patches [P, 768] uint8 of all images, their columns x and rows y, image numbers (-1 = padding) and pooled cells."""
        e = self.patch_embedder
        h = e.input_proj((2 * (patches.float() / 255 - 0.5)).to(DTYPE))
        table = e.position_embedding_table.to(h.dtype)
        h = h + table[0][x] + table[1][y]
        spatial = VISION['head_dim'] // 2
        freq = 100.0 ** (-torch.arange(0, spatial, 2, device=h.device).float() / spatial)
        rope = [((t.float()[:, None] * freq).cos(), (t.float()[:, None] * freq).sin()) for t in (x, y)]
        same = lambda b, n, i, j: image[i] == image[j]
        _, start, end = run_bounds(image)
        mask = block_mask(start, end, same)
        for layer in self.encoder.layers:
            h = layer(h, rope, mask)
        pooled = torch.zeros(num_cells + 1, h.shape[1], device=h.device).index_add(0, cell, h.float())[:num_cells] / POOL ** 2
        return (pooled * h.shape[1] ** 0.5 - self.std_bias) * self.std_scale


class Demo(nn.Module):
    """Parameter names are those of the published checkpoint without the leading `model.`."""
    def __init__(self):
        super().__init__()
        self.language_model = nn.Module()
        self.language_model.embed_tokens = nn.Embedding(TEXT['vocab_size'], H)
        nn.init.normal_(self.language_model.embed_tokens.weight, std=H ** -0.5)
        self.language_model.layers = nn.ModuleList(Layer(kind == 'full_attention') for kind in TEXT['layer_types'])
        self.language_model.norm = Norm(H)
        self.vision_tower = VisionTower()
        self.embed_vision = nn.Module()
        self.embed_vision.embedding_projection = Linear(H, VISION['hidden_size'])

    def rope(self, positions, full):
        d = TEXT['global_head_dim'] if full else TEXT['head_dim']
        i = torch.arange(0, d, 2, device=positions.device).float()
        freq = (1e6 if full else 1e4) ** (-i / d)
        if full:
            freq = torch.where(torch.arange(d // 2, device=positions.device) < d // 8, freq, 0.0)
        angle = positions.float()[:, None] * freq
        return angle.cos(), angle.sin()

    def features(self, media):
        f = self.vision_tower(*media)
        return self.embed_vision.embedding_projection(rms(f).to(DTYPE))

    def forward(self, ids, positions, doc, span, media=None, soft_rows=None):
        """Packed rows: ids, positions, document numbers, spans (0 = text, else the number of its image) [T] -> hidden [T, H]."""
        lm = self.language_model
        x = F.embedding(ids, lm.embed_tokens.weight).to(DTYPE) * H ** 0.5
        if media is not None:
            x = x.index_copy(0, soft_rows, self.features(media))
        causal = lambda b, n, i, j: (doc[i] == doc[j]) & (j <= i)
        window = TEXT['sliding_window']
        near = lambda b, n, i, j: (doc[i] == doc[j]) & (j > i - window) & ((j <= i) | ((span[i] == span[j]) & (span[i] > 0)))
        at, start, _ = run_bounds(doc)
        span_end = torch.where(span > 0, run_bounds(span)[2], at)
        masks = {True: block_mask(start, at, causal), False: block_mask(torch.maximum(start, at - window + 1), span_end, near)}
        ropes = {f: self.rope(positions, f) for f in (True, False)}
        routing = []
        for layer in lm.layers:
            full = layer.self_attn.full
            x, p, chosen = layer(x, ropes[full], masks[full])
            routing.append((p, chosen))
        return lm.norm(x), routing

    def logits(self, hidden):
        z = F.linear(hidden, self.language_model.embed_tokens.weight.to(hidden.dtype)).float()
        return 30 * torch.tanh(z / 30)
