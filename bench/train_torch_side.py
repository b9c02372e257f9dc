"""PyTorch's side of bench/train, run by the interpreter that has torch.

usage: train_torch_side.py NET THREADS FOLDER INFO

The commands of bench/train.c, over the same networks in eager PyTorch: FOLDER is what its `save` wrote, INFO its answer
to `info`.  And `flops`: multiply-adds of one step, forward and backward, as PyTorch counts them.
"""
import json
import pathlib
import resource
import sys
import time

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


NETS = {"mlp": Mlp, "lenet": Lenet, "resnet20": Resnet20, "vit1m": Vit1m, "lstm": Lstm}


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
        missing, unexpected = self.net.load_state_dict(read_safetensors(folder / "weights.safetensors"), strict=False)
        if unexpected or any(not m.endswith("num_batches_tracked") for m in missing):
            sys.exit(f"{name}: weights are missing, {missing}, or not known, {unexpected}")
        shape = (N_BATCHES, info["batch"])
        self.x = torch.from_numpy(np.fromfile(folder / "x.f32", np.float32)).reshape(*shape, *info["input"])
        self.y = torch.from_numpy(np.fromfile(folder / "y.i32", np.int32).astype(np.int64)).reshape(shape)
        if info["optimizer"] == "sgd":
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=info["rate"], momentum=info["momentum"], weight_decay=info["weight_decay"])
        else:
            self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=info["rate"], weight_decay=info["weight_decay"])
        self.n = 0

    def step(self):
        x, y = self.x[self.n % N_BATCHES], self.y[self.n % N_BATCHES]
        self.n += 1
        loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def info(self):
        return {"version": torch.__version__, "threads": torch.get_num_threads()}

    def flops(self):
        from torch.utils.flop_counter import FlopCounterMode
        counter = FlopCounterMode(display=False)
        with counter:
            F.cross_entropy(self.net(self.x[0]), self.y[0]).backward()
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
