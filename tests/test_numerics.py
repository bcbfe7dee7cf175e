"""Work by several threads, and arrays and slots in blocks: nothing is left out, nothing twice."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from lady_onnx import numerics, threads
from lady_onnx.groups import lines, rows
from lady_onnx.groups.model import Slot
from lady_onnx.groups.rows import multiply_lines, split_slot, take_rows
from lady_onnx.numerics import is_same, measure_moments, split_blocks
from lady_onnx.threads import limit_threads, map_in_threads

SHAPES = st.lists(st.integers(0, 6), max_size=4).map(tuple)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    with limit_threads(threads):
        assert map_in_threads(lambda k: k * k, range(100)) == [k * k for k in range(100)]
        assert map_in_threads(lambda k: k, []) == []


def test_an_error_in_a_thread_is_raised() -> None:
    with limit_threads(3), pytest.raises(ZeroDivisionError):
        map_in_threads(lambda k: 1 / (50 - k), range(100))


def test_an_error_ends_the_work() -> None:
    done = []

    def work(item: int) -> None:
        done.append(item)
        time.sleep(0.001)
        if item == 3:
            raise ZeroDivisionError

    with limit_threads(2), pytest.raises(ZeroDivisionError):
        map_in_threads(work, range(1000))
    assert len(done) < 500


def test_products_inside_threads_use_no_others() -> None:
    def count(_: int) -> set[int]:
        # libraries of others, such as that of PyTorch, are not asked
        found = threadpoolctl.threadpool_info()
        return {x["num_threads"] for x in found if "numpy" in x["filepath"]}

    with limit_threads(2):
        assert set().union(*map_in_threads(count, range(4))) <= {1}


def test_threads_have_the_callers_settings_and_start_no_others() -> None:
    def look(_: int) -> tuple[str, int | None]:
        return np.geterr()["over"], threads._thread_count.get()

    with limit_threads(4), np.errstate(over="raise"):
        assert set(map_in_threads(look, range(20))) == {("raise", 1)}


def test_items_that_use_threads_themselves_do_not_wait_for_each_other() -> None:
    def nest(item: int) -> list[int]:
        with limit_threads(2):
            return map_in_threads(abs, range(item))

    def start(item: int) -> int:
        # a new thread knows nothing of the limit inside this one
        thread = threading.Thread(target=map_in_threads, args=(abs, range(8)))
        thread.start()
        thread.join(20)
        return int(thread.is_alive())

    with limit_threads(2):
        assert map_in_threads(nest, range(8)) == [list(range(k)) for k in range(8)]
        assert not any(map_in_threads(start, range(4)))


FORK = """
import os, sys, time
from lady_onnx.threads import limit_threads, map_in_threads
with limit_threads(3):
    map_in_threads(lambda k: time.sleep(0.05), [1, 2, 3])
    time.sleep(0.05)  # the threads wait for more now
    child = os.fork()
    found = map_in_threads(abs, [-1, -2, -3])
    if not child:
        os._exit(found != [1, 2, 3])
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without forks")
def test_a_forked_process_has_threads_of_its_own() -> None:
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=60, check=False)
    assert ran.returncode == 0


@given(SHAPES, st.integers(1, 40))
def test_blocks_cover_an_array_once(shape: tuple[int, ...], count: int) -> None:
    seen = np.zeros(shape, int)
    parts = []
    for block in split_blocks(shape, count):
        assert len(block) == len(shape)
        seen[block] += 1
        parts.append(np.arange(seen.size).reshape(shape)[block].ravel())
    assert (seen == 1).all()
    assert all(part.size <= max(count, 1) for part in parts)
    order = np.concatenate([np.zeros(0, int), *parts])
    assert (order == np.arange(math.prod(shape))).all()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_the_parts_of_a_slot_are_all_of_it(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    many = data.draw(st.integers(1, shape[axis]))
    places = data.draw(st.permutations(range(shape[axis])))[: shape[axis] // many * many]
    others = [a for a in range(len(shape)) if a != axis]
    confined = data.draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    within = tuple(
        (a, np.array(data.draw(st.lists(st.integers(0, shape[a] - 1), unique=True, min_size=1))))
        for a in confined
    )
    slot = Slot("w", axis, np.array(places).reshape(-1, many), within)
    array = np.random.default_rng(0).standard_normal(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK_ELEMENTS", data.draw(st.integers(1, 40)))
        squares = np.zeros(len(slot.index))
        for part in split_slot(shape, slot):
            values = part.take_elements(array)
            squares[part.units] += multiply_lines(values, values, axis).reshape(-1, many).sum(1)
    assert squares == pytest.approx(np.square(take_rows(array, slot)).sum(1))


TYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int8])
UNITS = st.sampled_from([1.0, 2.0**-75, 2.0**75])
"""Squares of the last two have no place in single precision."""


@given(SHAPES.filter(len), TYPES, UNITS, st.integers(0, 99), st.sampled_from([1, 5, 40]))
def test_sums_of_lines_are_those_of_elements(
    shape: tuple[int, ...], dtype: type, unit: float, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    unit = unit if dtype in (np.float32, np.float64) else 1.0
    x, y = ((5 * unit * rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    mean = 0.3 * unit * (seed % 2)
    importance = {a: rng.random(n) for a, n in enumerate(shape) if rng.random() < 0.6}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_ELEMENTS", count)
        wanted = [a for a in range(len(shape)) if rng.random() < 0.7]
        found = lines.sum_lines(x, y, wanted, lines.PAIRS, mean, importance)
    assert found.keys() >= set(wanted)
    a, apart = x.astype(np.float64) - mean, y.astype(np.float64) - x
    for axis, sums in found.items():
        weight = np.ones(shape)
        for other in importance.keys() - {axis}:
            weight *= np.moveaxis(importance[other].reshape(-1, *[1] * (len(shape) - 1)), 0, other)
        others = tuple(k for k in range(len(shape)) if k != axis)
        expected = [(z * weight).sum(others) for z in (a * a, a * apart, apart * apart)]
        assert sums == pytest.approx(np.array(expected), rel=1e-4, abs=1e-4 * unit**2)


@pytest.mark.parametrize("size", [2.0**-75, 2.0**75])
def test_small_and_large_lines_are_not_lost_beside_others(size: float) -> None:
    x = np.random.default_rng(0).standard_normal((6, 9)).astype(np.float32)
    x[2] *= np.float32(size)
    y = 2 * x
    for axis, sums in lines.sum_lines(x, y, (0, 1)).items():
        squares = np.square(x, dtype=np.float64).sum(1 - axis)
        assert sums == pytest.approx(np.array([squares] * 3), rel=1e-5, abs=0)


@pytest.mark.parametrize("place", [0, 6, 7, 20, None])
def test_arrays_are_the_same_bit_for_bit(
    place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "CHUNK_ELEMENTS", 7)
    a = np.zeros((3, 7), np.float32)
    b = a.copy()
    if place is not None:
        b.ravel()[place] = -0.0
    assert is_same(a, b) == (place is None)


@given(SHAPES, TYPES, st.integers(0, 99), UNITS)
def test_moments_of_blocks_are_those_of_all(
    shape: tuple[int, ...], dtype: type, seed: int, unit: float
) -> None:
    rng = np.random.default_rng(seed)
    unit = unit if dtype in (np.float32, np.float64) else 1.0
    # the spread is much smaller than the mean, or as large
    x = (unit * (rng.standard_normal(shape) * [1e-4, 3][seed % 2] + 2)).astype(dtype)
    expected = (0.0, 0.0)
    if x.size:
        expected = float(np.mean(x, dtype=np.float64)), float(np.std(x, dtype=np.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numerics.split_blocks, "__defaults__", (7,))
        assert measure_moments(x) == pytest.approx(expected, rel=1e-5, abs=1e-12 * unit)
