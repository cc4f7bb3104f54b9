from __future__ import annotations

import pytest
import torch

from maskwright.losses.shape import boundary_by_sample, cldice_by_sample, soft_skeleton

SURE = 1e4


def picture(*rows: str) -> torch.Tensor:
    """(1, 1, H, W): 1 where a row says #."""
    return torch.tensor([[float(mark == "#") for mark in row] for row in rows])[None, None]


def logits_of(area: torch.Tensor) -> torch.Tensor:
    return (area * 2 - 1) * SURE


def everywhere(area: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(area), *area.shape[2:], dtype=torch.bool)


LEFT = picture("##....", "##....", "##....")
SHIFTED = picture(".##...", ".##...", ".##...")


def test_a_boundary_is_the_inner_edge_and_counts_as_met_within_the_tolerance() -> None:
    """Three boundary pixels in column 1 against six in columns 1 and 2 (both of its columns touch background)."""
    loss = boundary_by_sample(logits_of(LEFT), SHIFTED, everywhere(LEFT), tolerance_px=1, smooth=1.0)
    precision, recall = (3 + 1) / (3 + 1), (3 + 1) / (6 + 1)
    assert loss.item() == pytest.approx(1 - 2 * precision * recall / (precision + recall))
    near = boundary_by_sample(logits_of(LEFT), SHIFTED, everywhere(LEFT), tolerance_px=3)
    assert near.item() == pytest.approx(0, abs=1e-6)


def test_the_edge_of_what_counts_is_no_boundary() -> None:
    area = picture("####..", "####..", "####..")
    valid = everywhere(area)
    valid[..., 3:] = False  # what is seen is painted throughout
    flat = torch.full_like(area, SURE)
    assert boundary_by_sample(flat, area, valid, smooth=1.0).item() == pytest.approx(0)


def test_the_centre_line_of_a_bar_is_its_middle() -> None:
    bar = picture(".....", "#####", "#####", "#####", ".....")
    line = soft_skeleton(bar, torch.ones_like(bar), iterations=1)
    assert torch.equal(line, picture(".....", ".....", "#####", ".....", "....."))


def test_a_broken_line_costs_more_than_a_thinner_one() -> None:
    bar = picture("..........", "##########", "##########", "##########", "..........")
    broken, thinner = bar.clone(), bar.clone()
    broken[..., 4:6] = 0
    thinner[..., 1, :] = 0
    costs = [cldice_by_sample(logits_of(area), bar, everywhere(bar)).item() for area in (bar, thinner, broken)]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert costs[1] == pytest.approx(0, abs=1e-6)  # its centre line is covered, and lies inside
    assert costs[2] == pytest.approx(1 - 2 * (9 / 11) / (1 + 9 / 11), abs=1e-6)


def test_a_line_goes_on_below_pixels_that_do_not_count() -> None:
    bar = picture("..........", "##########", "##########", "##########", "..........")
    valid = everywhere(bar)
    valid[..., 4:6] = False
    line = soft_skeleton(bar * valid[:, None], valid[:, None].float(), iterations=1)
    assert torch.equal(line[0, 0, 2] > 0, valid[0, 2])
    assert torch.count_nonzero(line) == 8
