"""Solutions to the exercises of lesson 2, and what there is to see."""

import numpy as np


def division_and_sigmoid_rules(g, a, b, y):
    return g / b, -g * a / b**2, g * y * (1 - y)


def unbroadcast(g, shape):
    g = g.sum(tuple(range(g.ndim - len(shape))))
    return g.sum(tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] > 1), keepdims=True)


def order_of_the_walk(parents, last):
    # Kahn's algorithm (1962), backwards: a node is free when the last of its users has been served.
    users, reached, stack = {last: 0}, {last}, [last]
    while stack:
        for parent in parents.get(stack.pop(), []):
            users[parent] = users.get(parent, 0) + 1
            if parent not in reached:
                reached.add(parent)
                stack.append(parent)
    order, free = [], [last]
    while free:
        node = free.pop()
        order.append(node)
        for parent in parents.get(node, []):
            users[parent] -= 1
            if users[parent] == 0:
                free.append(parent)
    return order


def adam_step(x, slope, m, v, t, rate, corrected=True, beta1=0.9, beta2=0.999, eps=1e-8):
    # Without the correction m is too small by 1 - 0.9^t and sqrt(v) by sqrt(1 - 0.999^t). The second is the smaller for
    # thousands of steps, so the step is too long: 0.1 / sqrt(0.001) = 3.2 times at once, 6.5 times after ten steps.
    m = beta1 * m + (1 - beta1) * slope
    v = beta2 * v + (1 - beta2) * slope**2
    mean, square = (m / (1 - beta1**t), v / (1 - beta2**t)) if corrected else (m, v)
    return x - rate * mean / (np.sqrt(square) + eps), m, v


def dropout_and_its_gradient(x, u, p, g):
    keep = (u >= p) / (1 - p)
    return x * keep, g * keep
