"""The drawing of the autograd graph."""

import pytest

import minigen
from minigen import plot
from minigen.errors import ArgumentError, GradientError


def leaf(*shape):
    return minigen.ones(*shape, requires_grad=True)


def test_a_line_for_every_op_in_the_order_they_ran():
    x, w = leaf(3, 4), leaf(4, 2)
    loss = ((x @ w).tanh() * 2.0).sum()
    lines = [line.split() for line in plot.graph(loss, names={"x": x, "w": w}).splitlines()]
    assert [line[1] for line in lines] == ["matmul", "tanh", "mul", "sum"]
    assert "(3, 2)" in plot.graph(loss).splitlines()[0]
    assert lines[0][-2:] == ["x,", "w"] and lines[1][-1] == "1"


def test_a_shared_value_is_one_line_referred_to_twice():
    x = leaf(2)
    y = x * x
    lines = plot.graph((y * y).sum(), names={"x": x}).splitlines()
    assert len(lines) == 3 and lines[0].endswith("x, x") and lines[1].endswith("1, 1")


def test_an_unnamed_leaf_is_called_by_its_shape_and_data_are_a_dot():
    text = plot.graph(minigen.ones(2, 3) @ leaf(3, 1))
    assert text.endswith("·, leaf(3, 1)")


def test_of_several_outputs_the_used_one_is_told():
    first, second = leaf(4).reshape(2, 2).unbind(0)
    text = plot.graph((first + second).sum())
    assert "unbind" in text or "select" in text or "[0]" in text


def test_named_parameters_of_a_module_name_the_leaves():
    net = minigen.nn.Sequential(minigen.nn.Linear(3, 2), minigen.nn.Tanh())
    assert "0.weight" in plot.graph(net(minigen.ones(1, 3)).sum(), names=net.named_parameters())


def test_long_graphs_are_cut_in_the_middle():
    x = leaf(1)
    for _ in range(1000):
        x = x + 1.0
    text = plot.graph(x)
    assert len(text.splitlines()) == 201 and "... 800 more ..." in text


def test_what_cannot_be_drawn_says_why():
    x = leaf(2)
    with pytest.raises(GradientError, match="not made by a recorded op"):
        plot.graph(x)
    y = x.sum()
    y.backward()
    with pytest.raises(GradientError, match="walked"):
        plot.graph((y * x.sum()) if y.node is None else y)
    with pytest.raises(ArgumentError, match="mode"):
        plot.graph(x.sum(), mode="picture")
    for _ in range(100):
        x = x * 1.0
    with pytest.raises(ArgumentError, match="too many"):
        plot.graph(x, mode="figure")


def test_the_figure_has_a_box_for_every_op_and_leaf_and_an_arrow_for_every_edge(tmp_path):
    x, w = leaf(3, 4), leaf(4, 2)
    h = x @ w
    figure = plot.graph((h * h + h).sum(), mode="figure", names={"x": x, "w": w})
    texts = [text.get_text() for text in figure.axes[0].texts]
    boxes = [text for text in texts if text]
    assert sorted(box.split("\n")[0] for box in boxes) == ["add", "matmul", "mul", "sum", "w", "x"]
    assert texts.count("") == 7  # x, w to matmul; h to mul twice and to add; mul to add; add to sum
    assert plot.save(figure, tmp_path / "graph.png").stat().st_size > 1000
