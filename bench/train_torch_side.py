"""PyTorch's side of bench/train, run by the interpreter that has torch.

usage: train_torch_side.py NET THREADS FOLDER INFO

The commands of bench/train.c, over the same networks in eager PyTorch: FOLDER is what its `save` wrote, INFO its answer
to `info`.  And `flops`: multiply-adds of one step, forward and backward, as PyTorch counts them.
"""
import json
import math
import pathlib
import resource
import sys
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

N_BATCHES = 10


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(784, 256), nn.Linear(256, 256), nn.Linear(256, 10)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Lenet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.stride, self.more = stride, n_out - n_in

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return F.relu(y + x)


class Resnet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        n_in = 16
        for s, width in enumerate((16, 32, 64)):
            blocks = []
            for i in range(3):
                blocks.append(Block(n_in, width, 2 if s and i == 0 else 1))
                n_in = width
            setattr(self, f"layer{s + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width))


class VitBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width, 1e-6), Attention(width, heads), nn.LayerNorm(width, 1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Vit1m(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, 128)), nn.Parameter(torch.zeros(1, 65, 128))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 128, 4, 4)})
        self.blocks = nn.Sequential(*(VitBlock(128, 4, 512) for _ in range(5)))
        self.norm, self.head = nn.LayerNorm(128, 1e-6), nn.Linear(128, 10)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(64, 256, batch_first=True), nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class LlamaAttention(nn.Module):
    def __init__(self, width, heads, kv_heads):
        super().__init__()
        self.d = width // heads
        self.q_proj, self.o_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj, self.v_proj = nn.Linear(width, kv_heads * self.d, bias=False), nn.Linear(width, kv_heads * self.d, bias=False)

    def forward(self, x, cos, sin):
        n, length, _ = x.shape
        q, k, v = (y.view(n, length, -1, self.d).transpose(1, 2) for y in (self.q_proj(x), self.k_proj(x), self.v_proj(x)))
        y = F.scaled_dot_product_attention(rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(n, length, -1))


class LlamaBlock(nn.Module):
    def __init__(self, width, heads, kv_heads, hidden):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(width), RmsNorm(width)
        self.self_attn = LlamaAttention(width, heads, kv_heads)
        self.mlp = nn.ModuleDict({"gate_proj": nn.Linear(width, hidden, bias=False), "up_proj": nn.Linear(width, hidden, bias=False), "down_proj": nn.Linear(hidden, width, bias=False)})

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        y = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y))


class Lm5m(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"embed_tokens": nn.Embedding(2048, 256), "layers": nn.ModuleList(LlamaBlock(256, 8, 4, 704) for _ in range(6)), "norm": RmsNorm(256)})
        angle = torch.outer(torch.arange(256), 10000.0 ** -(torch.arange(0, 32, 2) / 32)).repeat(1, 2)  # as `rotated` takes them: by halves
        self.cos, self.sin = angle.cos(), angle.sin()

    def forward(self, ids):
        x = self.model["embed_tokens"](ids)
        for layer in self.model["layers"]:
            x = layer(x, self.cos, self.sin)
        return F.linear(self.model["norm"](x), self.model["embed_tokens"].weight)


class ResBlock(nn.Module):
    def __init__(self, n_in, n_out, time_width):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, n_in, 1e-6), nn.Conv2d(n_in, n_out, 3, padding=1)
        self.time = nn.Linear(time_width, n_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, n_out, 1e-6), nn.Conv2d(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x, time):
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = (f(x).view(n, length, self.heads, -1).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width))


class Attender(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm, self.norm1, self.norm3 = nn.GroupNorm(8, width, 1e-6), nn.LayerNorm(width), nn.LayerNorm(width)
        self.proj_in, self.attn1, self.proj_out = nn.Linear(width, width), SelfAttention(width, heads), nn.Linear(width, width)
        self.ff1, self.ff2 = nn.Linear(width, 4 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        y = y + self.attn1(self.norm1(y))
        value, gate = self.ff1(self.norm3(y)).chunk(2, -1)
        y = y + self.ff2(value * F.gelu(gate))
        return x + self.proj_out(y).transpose(1, 2).reshape(x.shape)


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        wide, heads, blocks = (64, 128), 4, 2
        time_width, width = 4 * wide[0], wide[0]
        self.time = nn.Sequential(nn.Linear(wide[0], time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.conv_in = nn.Conv2d(4, width, 3, padding=1)
        self.frequencies = torch.exp(-torch.arange(wide[0] // 2) * (math.log(10000) / (wide[0] // 2)))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, w in enumerate(wide):
            res = nn.ModuleList(ResBlock(width if b == 0 else w, w, time_width) for b in range(blocks))
            self.down.append(nn.ModuleDict({"res": res, "attn": Attender(w, heads)}))
            if i + 1 < len(wide):
                self.down[-1]["conv"] = nn.Conv2d(w, w, 3, 2, 1)
            width = w
        self.mid = ResBlock(width, width, time_width)
        for i, w in enumerate(reversed(wide)):
            res = nn.ModuleList(ResBlock((width if b == 0 else w) + w, w, time_width) for b in range(blocks))
            self.up.append(nn.ModuleDict({"res": res, "attn": Attender(w, heads)}))
            if i + 1 < len(wide):
                self.up[-1]["conv"] = nn.Conv2d(w, w, 3, padding=1)
            width = w
        self.norm_out, self.conv_out = nn.GroupNorm(8, width, 1e-5), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x, t):
        angle = t[:, None] * self.frequencies
        time, x, kept = self.time(torch.cat((angle.cos(), angle.sin()), 1)), self.conv_in(x), []
        for level in self.down:
            for i, block in enumerate(level["res"]):
                x = block(x, time)
                if i + 1 == len(level["res"]):
                    x = level["attn"](x)
                kept.append(x)
            if "conv" in level:
                x = level["conv"](x)
        x = self.mid(x, time)
        for level in self.up:
            for block in level["res"]:
                x = block(torch.cat((x, kept.pop()), 1), time)
            x = level["attn"](x)
            if "conv" in level:
                x = level["conv"](F.interpolate(x, scale_factor=2))
        return self.conv_out(F.silu(self.norm_out(x)))


NETS = {"mlp": Mlp, "lenet": Lenet, "resnet20": Resnet20, "vit1m": Vit1m, "lm5m": Lm5m, "lstm": Lstm, "unet": Unet}


def read_safetensors(path):
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    table = json.loads(data[8:8 + n])
    table.pop("__metadata__", None)
    return {name: torch.from_numpy(np.frombuffer(data, np.float32, (t["data_offsets"][1] - t["data_offsets"][0]) // 4, 8 + n + t["data_offsets"][0]).reshape(t["shape"]).copy())
            for name, t in table.items()}


class Side:
    def __init__(self, name, folder, info):
        self.net = NETS[name]()
        missing, unexpected = self.net.load_state_dict(read_safetensors(folder / "model.safetensors"), strict=False)
        if unexpected or any(not m.endswith("num_batches_tracked") for m in missing):
            sys.exit(f"{name}: weights are missing, {missing}, or not known, {unexpected}")
        self.task, shape = info["task"], (N_BATCHES, info["batch"], *info["input"])
        self.x = torch.from_numpy(np.fromfile(folder / "ids.i32", np.int32) if self.task == "words" else np.fromfile(folder / "x.f32", np.float32)).reshape(shape)
        y = np.fromfile(folder / "y.i32", np.int32)
        self.y = torch.from_numpy(y.astype(np.float32 if self.task == "noise" else np.int64)).reshape(N_BATCHES, -1)
        if self.task == "words":
            self.x = self.x.long()
        if self.task == "noise":
            self.target = torch.from_numpy(np.fromfile(folder / "target.f32", np.float32)).reshape(shape)
        if info["optimizer"] == "sgd":
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=info["rate"], momentum=info["momentum"], weight_decay=info["weight_decay"])
        else:
            self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=info["rate"], weight_decay=info["weight_decay"])
        self.n = 0

    def loss(self, i):
        if self.task == "noise":
            return F.mse_loss(self.net(self.x[i], self.y[i]), self.target[i])
        return F.cross_entropy(self.net(self.x[i]).flatten(0, -2), self.y[i])

    def step(self):
        loss = self.loss(self.n % N_BATCHES)
        self.n += 1
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def info(self):
        return {"version": torch.__version__, "threads": torch.get_num_threads()}

    def flops(self):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode
        counter = FlopCounterMode(display=False)
        warnings.simplefilter("ignore")  # switching oneDNN off speaks of GPUs
        # what it knows to count: products, not the layers of oneDNN and the fused attention that the steps run by
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), counter:
            self.loss(0).backward()
        self.optimizer.zero_grad()
        return {"macs": counter.get_total_flops() / 2}

    def losses(self, n):
        return {"losses": [self.step() for _ in range(int(n))]}

    def steps(self, n):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(n)):
            self.step()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def memory(self):
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main(name, threads, folder, info):
    torch.set_num_threads(int(threads))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    side = Side(name, pathlib.Path(folder), json.loads(info))
    for line in sys.stdin:
        command, *arguments = line.rstrip("\n").split("\t")
        answer = getattr(side, command)(*arguments)
        if command == "memory":
            answer["before"] = before
        print(json.dumps(answer), flush=True)


main(*sys.argv[1:])
