"""Worked solutions of lesson 09: run it, and each check says that it is right."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from tlutils.checks import lesson_09


def to_convolution(linear):
    found = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    found.load_state_dict(
        {k: v if k == "bias" else v[:, :, None, None] for k, v in linear.state_dict().items()}
    )
    return found


def to_convolution_by_assignment(linear):
    found = nn.Conv2d(linear.in_features, linear.out_features, 1)
    found.weight = nn.Parameter(linear.weight.detach().clone().view(*linear.weight.shape, 1, 1))
    found.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())
    return found


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(a, b):
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    shared = max(0, width) * max(0, height)
    return shared / (area(a) + area(b) - shared)


def iou_by_torchvision(a, b):
    return box_iou(torch.tensor([a]).float(), torch.tensor([b]).float())[0, 0]


def iou_by_counting(a, b):
    one, two = ({(x, y) for x in range(q[0], q[2]) for y in range(q[1], q[3])} for q in (a, b))
    return len(one & two) / len(one | two)  # of whole pixels, one by one


def descend(head, loss_of, steps):
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(head).backward()
        optimizer.step()
    return head


def train_segmenter(maps, labels, classes):
    head = nn.Conv2d(maps.shape[1], classes, kernel_size=1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05)
    for _ in range(100):
        loss = F.cross_entropy(head(maps), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def train_segmenter_of_rows(maps, labels, classes):
    rows, wanted = maps.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
    linear = nn.Linear(maps.shape[1], classes)
    return to_convolution(descend(linear, lambda head: F.cross_entropy(head(rows), wanted), 100))


def train_tags(x, tags):
    head = nn.Linear(x.shape[1], tags.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05)
    for _ in range(200):
        loss = F.binary_cross_entropy_with_logits(head(x), tags)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def move_box(box, size, pct):
    margin = (size / pct - size) / 2
    return [min(max(edge / pct - margin, 0), size) for edge in box]


def move_box_about_the_middle(box, size, pct):
    return ((torch.tensor(box) - size / 2) / pct + size / 2).clamp(0, size)


lesson_09.check_convolution(to_convolution)
lesson_09.check_convolution(to_convolution_by_assignment)
lesson_09.check_iou(iou)
lesson_09.check_iou(iou_by_torchvision)
lesson_09.check_iou(iou_by_counting)
lesson_09.check_segmenter(train_segmenter)
lesson_09.check_segmenter(train_segmenter_of_rows)
lesson_09.check_tags(train_tags)
lesson_09.check_moved_box(move_box)
lesson_09.check_moved_box(move_box_about_the_middle)
