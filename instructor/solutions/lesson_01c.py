"""Worked solutions of lesson 01c: run it, and each check says that it is right."""

import torch

from tlutils.checks import lesson_01c


def ascend_with_blur(slope, blur, picture, rate, steps):
    for step in range(1, steps + 1):
        picture = picture + rate * slope(picture)
        if step % 10 == 0:
            picture = blur(picture)
    return picture


def fooling_step(picture, gradient, size):
    rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (picture + size * gradient / rms).clamp(0, 1)


def squared(values):
    return values.flatten(1).square().sum(1)


def gram_matrix(maps):
    return torch.einsum("nihw,njhw->nij", maps, maps) / maps[0, 0].numel()


def style_transfer_loss(found, photo, style, weight):
    grams = gram_matrix(found["early"]), gram_matrix(style["early"])
    content = squared(found["late"] - photo["late"]) / squared(photo["late"])
    return content + weight * squared(grams[0] - grams[1]) / squared(grams[1])


def jittered_gradient(slope, picture, shift):
    down, right = shift
    return slope(picture.roll((down, right), (2, 3))).roll((-down, -right), (2, 3))


lesson_01c.check_blur(ascend_with_blur)
lesson_01c.check_fooling_step(fooling_step)
lesson_01c.check_gram_matrix(gram_matrix)
lesson_01c.check_style_transfer_loss(style_transfer_loss)
lesson_01c.check_jitter(jittered_gradient)
