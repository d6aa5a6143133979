"""A drawing of the autograd graph: what was recorded, and along which edges gradients will flow back.

    x = minigen.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    print(graph(y, names={"x": x}))

      1  mul  (2,)   x, x
      2  sum  ()     1

One line an op, oldest first, as a program: its number, its name, the shape of what it made, and where its arguments
came from: a number, a leaf's name, or `·` for data that want no gradient (left out at the end of the line).
`backward()` walks the list from the bottom up.
"""

import re

from ..errors import ArgumentError, GradientError, expect
from ..tensor import Tensor

MOST_LINES = 200
MOST_DRAWN = 80
ACROSS, DOWN = 1.35, 0.75  # inches from one column, and one row, to the next


def graph(tensor, mode="text", names=None):
    """The graph behind `tensor`: a string (mode="text") or a matplotlib Figure (mode="figure").

    names    {"w": w, ...} or module.named_parameters(): what to call the leaves. Unnamed ones are called by shape.

    Raises GradientError where nothing was recorded (a leaf, or under no_grad), ArgumentError for another mode.
    """
    expect(mode in ("text", "figure"), 'graph: mode is "text" or "figure"', mode, error=ArgumentError)
    if tensor.node is None:
        raise GradientError("graph: this tensor was not made by a recorded op\n  give a loss, outside no_grad()")
    called = {id(leaf): name for name, leaf in dict(names or {}).items()}
    steps = recorded(tensor)
    return as_text(steps, called) if mode == "text" else as_figure(steps, called)


def recorded(tensor):
    """The nodes that `tensor` was made by, oldest first."""
    seen, waiting = {}, [tensor.node]
    while waiting:
        node = waiting.pop()
        if node.order in seen:
            continue
        seen[node.order] = node
        if node.edges is None:
            raise GradientError("graph: this graph was walked and freed\n  write backward(retain_graph=True)")
        waiting.extend(target for target in map(target_of, node.edges) if target is not None and not is_leaf(target))
    return [seen[order] for order in sorted(seen)]


def target_of(edge):
    """The node or the leaf that an edge leads to, None where no gradient goes."""
    return edge[0] if isinstance(edge, tuple) else edge


def is_leaf(target):
    return isinstance(target, Tensor)


def shape_of(node):
    """A node's shape as text; of each output, where it has several."""
    return " ".join(map(str, node.shape)) if isinstance(node.shape, list) else str(tuple(node.shape))


def leaf_name(leaf, called):
    return called.get(id(leaf), f"leaf{tuple(leaf.shape)}")


def as_text(steps, called):
    """One line a node."""
    number = {id(node): i + 1 for i, node in enumerate(steps)}

    def source(edge):
        target = target_of(edge)
        if target is None:
            return "·"
        if is_leaf(target):
            return leaf_name(target, called)
        return f"{number[id(target)]}" + (f"[{edge[1]}]" if isinstance(edge, tuple) else "")

    def sources(node):
        return re.sub("(, ·)+$", "", ", ".join(map(source, node.edges)))

    rows = [(number[id(node)], node.name, shape_of(node), sources(node)) for node in steps]
    names, shapes = max(len(row[1]) for row in rows), max(len(row[2]) for row in rows)
    lines = [f"{i:>4}  {name:<{names}}  {shape:<{shapes}}   {args}" for i, name, shape, args in rows]
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines = lines[:half] + [f"      ... {len(lines) - 2 * half} more ..."] + lines[-half:]
    return "\n".join(lines)


def as_figure(steps, called):
    """Leaves at the left, the result at the right: boxes for leaves, rounded for ops; arrows as the data flowed."""
    from .figures import COLOURS, style, subplots

    expect(
        len(steps) <= MOST_DRAWN,
        f"graph: {len(steps)} nodes are too many for a drawing that can be read ({MOST_DRAWN} at most)",
        error=ArgumentError,
        hint='write mode="text", or draw the graph of one layer',
    )
    places, links, labels = layout(steps, called)
    across, down = max(x for x, _ in places.values()) + 1, max(y for _, y in places.values()) + 1
    figure, axes = subplots(size=(max(3.0, ACROSS * across), max(1.6, DOWN * down)))
    bottom = -0.5
    with style():
        boxes = {}
        for key, (x, y) in places.items():
            leaf = key in labels and labels[key][1]
            look = {
                "boxstyle": "square,pad=0.35" if leaf else "round,pad=0.35,rounding_size=0.6",
                "facecolor": "#f2f2f2" if leaf else "#e3f0f8",
                "edgecolor": COLOURS["floor"] if leaf else COLOURS["ours"],
            }
            boxes[key] = axes.text(
                x, y, labels[key][0], ha="center", va="center", fontsize=8, bbox=look, linespacing=1.3, zorder=3
            )
        for i, (source, target) in enumerate(links):
            repeat = links[:i].count((source, target))
            span = places[target][0] - places[source][0]
            if span > 1:  # around the boxes in between, not through them
                bend = min(0.35, 1.7 / span)
                sag = 0.5 * bend * span * ACROSS / DOWN
                bottom = min(bottom, (places[source][1] + places[target][1]) / 2 - sag)
            else:
                bend = (0.18, -0.18)[repeat % 2] if links.count((source, target)) > 1 else 0.0
            axes.annotate(
                "",
                xy=places[target],
                xytext=places[source],
                zorder=1,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "#777777",
                    "linewidth": 0.9,
                    "patchA": boxes[source].get_bbox_patch(),
                    "patchB": boxes[target].get_bbox_patch(),
                    "shrinkA": 1,
                    "shrinkB": 1,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
        axes.set(xlim=(-0.6, across - 0.4), ylim=(bottom - 0.1, down - 0.4))
        figure.set_figheight(max(1.6, DOWN * (down - bottom)))
        axes.axis("off")
    return figure


def layout(steps, called):
    """{key: (column, row)}, [(from, to), ...], {key: (text, is a leaf)}.

    A node stands one column right of the furthest of what it was made from; a leaf just left of its first use.
    Rows follow the mean row of what feeds a node, so that few arrows cross.
    """
    depth, labels, links, users = {}, {}, [], {}
    for node in steps:
        sources = [target for target in map(target_of, node.edges) if target is not None]
        depth[id(node)] = 1 + max((depth.get(id(s), 0) for s in sources), default=0)
        labels[id(node)] = f"{node.name}\n{shape_of(node)}", False
        for s in sources:
            links.append((id(s), id(node)))
            if is_leaf(s):
                labels[id(s)] = f"{leaf_name(s, called)}\n{tuple(s.shape)}", True
                users.setdefault(id(s), []).append(id(node))
    for leaf, nodes in users.items():
        depth[leaf] = min(depth[node] for node in nodes) - 1
    columns = {}
    for key, column in depth.items():
        columns.setdefault(column, []).append(key)
    feeds, fed = {}, {}
    for source, target in links:
        feeds.setdefault(target, []).append(source)
        fed.setdefault(source, []).append(target)
    rows = {key: i for keys in columns.values() for i, key in enumerate(keys)}
    for sweep in range(6):  # order each column by the mean row of its neighbours, from the left, then from the right
        for column in sorted(columns, reverse=bool(sweep % 2)):
            near = feeds if sweep % 2 == 0 else fed
            mean = {k: sum(rows[n] for n in near.get(k, [k])) / len(near.get(k, [k])) for k in columns[column]}
            columns[column].sort(key=mean.get)
            rows.update({key: i for i, key in enumerate(columns[column])})
    tallest = max(map(len, columns.values()))
    places = {}
    for column, keys in columns.items():
        for i, key in enumerate(reversed(keys)):
            places[key] = (column, i + (tallest - len(keys)) / 2)
    return places, links, labels
