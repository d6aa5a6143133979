"""mpirun -n N python together.py FOLDER: what several processes do beside what one does. Rank 0 prints {name: found}.

Each case trains once alone on whole batches and once together on its rows, in every process, and gives the largest
difference of the weights beside the largest weight.
"""

import itertools
import json
import sys

import numpy as np

import minigen
from minigen import amp, capture, checkpoint, distributed, nn, optim
from minigen.autograd import checkpoint as recomputed
from minigen.data import DataLoader, TensorDataset
from minigen.nn import functional as F
from minigen.random import Generator
from minigen.train import fit

STEPS = 6
ROWS = 16  # a batch of all processes
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def network(width=24):
    minigen.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))


def numbers():
    x = Generator(1).normal((ROWS * STEPS, 6))
    return TensorDataset(x, x[:, :3].argmax(1))


def batches():
    return DataLoader(numbers(), batch_size=ROWS, shuffle=True, generator=Generator(2))


def adam(model):
    return optim.Adam(model.parameters(), lr=0.01)


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def fitted(group, model, optimizer, loss=cross_entropy, **options):
    options = {"steps": STEPS, "progress": False, "group": group, **options}
    run = fit(model, loss, group.shard(batches()), optimizer, **options)
    return weights(model), np.array(run.losses)


def weights(model):
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def apart(one, other):
    return float(np.abs(one - other).max() / np.abs(one).max())


def compared(train):
    """How far apart `train(group)` is in this group from what it is alone; and whether all ranks have the same bits."""
    (alone, losses), (together, same) = train(distributed.Group()), train(GROUP)
    equal = bool((GROUP.maximum(together) == together).all() and (-GROUP.maximum(-together) == together).all())
    return [max(apart(alone, together), apart(losses, same)), equal]


def stepped(group, model, optimizer, loss, bucket=1 << 20, clip=None, before=()):
    """Training by hand: weights, and the loss or norm of each step. before: losses whose gradients are added first."""
    parallel = distributed.DataParallel(model, optimizer, group, bucket)
    found = []
    for x, y in group.shard(batches()):
        optimizer.zero_grad()
        for earlier in before:
            earlier(model, x, y).backward()
        value = loss(model, x, y)
        with parallel:
            value.backward()
        norm = None if clip is None else nn.utils.clip_grad_norm_(model.parameters(), clip).item()
        optimizer.step()
        found.append(group.mean(value.item()) if norm is None else norm)
    return weights(model), np.array(found)


def plain(model, x, y):
    return F.cross_entropy(model(x), y)


# One all-reduce in buckets


@case
def fit_with_adam():
    def train(group):
        model = network()
        return fitted(group, model, adam(model), clip_norm=0.5)

    return compared(train)


@case
def many_small_buckets():
    def train(group):
        model = network()
        return stepped(group, model, adam(model), plain, bucket=512, clip=0.3)

    return compared(train)


@case
def groups_of_parameters():
    def train(group):
        model = network()
        matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == large] for large in (True, False))
        optimizer = optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0}])
        return stepped(group, model, optimizer, plain, bucket=512)

    return compared(train)


@case
def gradients_of_two_losses_added():
    def train(group):
        model = network()
        return stepped(group, model, adam(model), plain, before=[lambda model, x, y: model(x).square().mean()])

    return compared(train)


@case
def a_part_that_only_some_ranks_use():
    def train(group):
        model = network()
        size = group.size

        def loss(model, x, y):
            if size == 1:  # the first of GROUP.size parts of the rows goes the long way, the others the short one
                rows = minigen.tensor((np.arange(len(x)) % GROUP.size == 0).astype(np.float32)).view(-1, 1)
                h = model[:2](x)
                return F.cross_entropy(model[4](rows * model[2:4](h) + (1 - rows) * h), y)
            h = model[:2](x)
            return F.cross_entropy(model[4](model[2:4](h) if group.rank == 0 else h), y)

        return stepped(group, model, adam(model), loss, bucket=512)

    return compared(train)


@case
def checkpointed_blocks():
    def train(group):
        model = network()
        loss = lambda model, x, y: F.cross_entropy(model[4](recomputed(model[:4], x)), y)
        return stepped(group, model, adam(model), loss, bucket=512)

    return compared(train)


@case
def a_captured_step():
    def train(group):
        model = network()
        optimizer = adam(model)
        parallel = distributed.DataParallel(model, optimizer, group)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            with parallel:
                loss.backward()
            optimizer.step()
            return loss

        step = capture(step, strict=True)
        losses = [group.mean(step(x, y).item()) for x, y in group.shard(batches())]
        return weights(model), np.array(losses)

    return compared(train)


@case
def a_state_loaded_after_all_was_made():
    def train(group):
        model = network()
        optimizer = adam(model)
        parallel = distributed.DataParallel(model, optimizer, group)
        for x, y in group.shard(batches()):
            optimizer.zero_grad()
            with parallel:
                plain(model, x, y).backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())  # new arrays
        return weights(model), np.ones(1)

    return compared(train)


@case
def batch_norm_over_all():
    def train(group):
        minigen.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        model = distributed.SyncBatchNorm.convert_sync_batchnorm(model, group)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        loss = lambda model, x, y: F.cross_entropy(model(x[:, [0, 1, 2, 3] * 4].view(-1, 1, 4, 4)), y)
        trained, losses = stepped(group, model, optimizer, loss)
        state = model.state_dict()
        kept = [state[f"1.running_{name}"].numpy() for name in ("mean", "var")]
        return np.concatenate([trained, *kept]), losses

    return compared(train)


# Sharded optimiser state


def sharded(kind, groups=False, **options):
    def train(group):
        model = network()
        given = model.parameters()
        if groups:
            given = [{"params": list(model[0].parameters()), "lr": 0.003}, {"params": list(model[2:].parameters())}]
        optimizer = kind(given, **options)
        if group.size > 1:
            optimizer = distributed.ShardedOptimizer(optimizer, group, bucket=1024)
        return stepped(group, model, optimizer, plain, clip=0.3)

    return compared(train)


@case
def sharded_adam():
    return sharded(optim.Adam, lr=0.01)


@case
def sharded_adamw_in_groups():
    return sharded(optim.AdamW, groups=True, lr=0.01)


@case
def sharded_sgd_with_momentum():
    return sharded(optim.SGD, lr=0.1, momentum=0.9)


@case
def sharded_adagrad():
    return sharded(optim.Adagrad, lr=0.1, initial_accumulator_value=0.1)


@case
def sharded_nadam():
    return sharded(optim.NAdam, lr=0.01)


@case
def a_scaler_skips_on_all_or_none():
    """An Inf in the gradient of the first weight: one rank holds it, and no rank takes the step."""
    model = network()
    optimizer = distributed.ShardedOptimizer(adam(model), GROUP, bucket=1 << 20)
    parallel = distributed.DataParallel(model, optimizer, GROUP)
    scaler = amp.GradScaler(init_scale=4.0)
    before = [weights(model)]
    for overflows in (False, True, False):
        optimizer.zero_grad()
        with parallel:
            scaler.scale(model(minigen.ones(2, 6)).square().mean() + 0.0 * model[0].weight[0, 0]).backward()
        if overflows and GROUP.is_first:
            model[0].weight.grad.data[0, 0] = np.inf
        scaler.step(optimizer)
        scaler.update()
        before.append(weights(model))
    moved = [bool((a != b).any()) for a, b in itertools.pairwise(before)]
    return [abs(scaler.get_scale() - 2.0), moved == [True, False, True]]


@case
def sharded_state_is_a_part():
    """[the share of Adam's numbers that this process keeps, whether the gathered state is that of one process]"""
    model = network(64)
    whole = adam(model)
    fitted(distributed.Group(), model, whole)
    model = network(64)
    optimizer = distributed.ShardedOptimizer(adam(model), GROUP, bucket=1024)
    fitted(GROUP, model, optimizer)
    kept = sum(a.size for flat in optimizer.flats() for part in flat.parts for a in part.arrays.values())
    state = optimizer.state_dict()
    close = ("state" in state) == GROUP.is_first
    if GROUP.is_first:
        for i, mine in whole.state_dict()["state"].items():
            close &= state["state"][i]["step"].item() == mine["step"].item() == STEPS
            close &= all(np.allclose(state["state"][i][k].numpy(), mine[k].numpy(), atol=1e-6) for k in mine)
    return [kept / (2 * len(weights(model))), bool(close)]


@case
def a_sharded_run_goes_on():
    """A run saved half way goes on to the same weights, and alone to nearly the same."""
    folder = f"{FOLDER}/half-{GROUP.size}"

    def train(group, steps, **options):
        model = network()
        optimizer = adam(model)
        schedule = optim.lr_scheduler.StepLR(optimizer, 2)
        optimizer = distributed.ShardedOptimizer(optimizer, group, bucket=1024) if group.size > 1 else optimizer
        return fitted(group, model, optimizer, steps=steps, clip_norm=0.5, scheduler=schedule, **options)[0]

    straight = train(GROUP, STEPS)
    train(GROUP, STEPS // 2, checkpoints=folder, every=100)
    GROUP.barrier()
    alone = train(distributed.Group(), STEPS, resume=folder)
    GROUP.barrier()
    resumed = train(GROUP, STEPS, checkpoints=folder, resume=True, every=100)
    return [apart(straight, alone), bool((resumed == straight).all())]


@case
def a_run_of_another_number_of_ranks_goes_on():
    """What one process saved half way, sharded ones take over."""

    def train(group, steps, **options):
        model = network()
        optimizer = adam(model)
        optimizer = distributed.ShardedOptimizer(optimizer, group, bucket=1024) if group.size > 1 else optimizer
        return fitted(group, model, optimizer, steps=steps, **options)[0]

    if GROUP.is_first:
        train(distributed.Group(), STEPS // 2, checkpoints=f"{FOLDER}/one-{GROUP.size}", every=100)
    GROUP.barrier()
    straight = train(distributed.Group(), STEPS)
    resumed = train(GROUP, STEPS, resume=f"{FOLDER}/one-{GROUP.size}")
    return [apart(straight, resumed), True]


# What is said


@case
def words_and_parts():
    size, rank = GROUP.size, GROUP.rank
    said = GROUP.gathered({"rank": rank, "text": "x" * rank})
    fine = said == [{"rank": r, "text": "x" * r} for r in range(size)]
    x = np.arange(4.0 * size) * (rank + 1)
    GROUP.wait(GROUP.scatter_begun(x), "a test")
    mine = GROUP.part(np.arange(4.0 * size)) * (size * (size + 1) / 2)
    fine &= bool((GROUP.part(x) == mine).all())
    GROUP.wait(GROUP.gather_begun(x), "a test")
    fine &= bool((x == np.arange(4.0 * size) * (size * (size + 1) / 2)).all())
    return [GROUP.combined(rank, "MAX") - (size - 1), fine]


@case
def noise_of_each_rank_goes_on():
    """Ranks draw noise of their own, and after a resumed run the noise that would have come."""
    folder = f"{FOLDER}/noise-{GROUP.size}"

    def drawn(steps, **options):
        generator = GROUP.generator(Generator(5))
        found = []

        def loss(model, batch):
            found.append(float(generator.normal(())))
            return cross_entropy(model, batch)

        model = network()
        fitted(GROUP, model, adam(model), loss, steps=steps, generator=generator, **options)
        return found

    straight = drawn(STEPS)
    first = drawn(STEPS // 2, checkpoints=folder, every=100)
    GROUP.barrier()
    second = drawn(STEPS, checkpoints=folder, resume=True)
    others = GROUP.gathered(straight)
    return [0.0, first + second == straight and len({tuple(x) for x in others}) == GROUP.size]


@case
def a_checkpoint_is_one_file():
    found = checkpoint.Checkpoints(f"{FOLDER}/half-{GROUP.size}").latest()
    return [0.0, set(checkpoint.load(found)["parts"]["optimizer"]["state"]) == set(range(6))]


if __name__ == "__main__":
    FOLDER = sys.argv[1]
    GROUP = distributed.join(patience=20)
    results = {}
    for name, function in CASES.items():
        found = GROUP.gathered(function())
        results[name] = [max(number for number, _ in found), all(fine for _, fine in found)]
    if GROUP.is_first:
        print(json.dumps(results))
