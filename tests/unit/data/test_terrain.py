from __future__ import annotations

import numpy as np

from maskwright.data.terrain import Terrain, tile_terrain


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    return 779_170.0 + np.arange(300) * 1.25 + 0.625, 9_585_524.0 - np.arange(250) * 1.25 - 0.625


def test_any_window_agrees_with_the_whole_bit_for_bit() -> None:
    terrain, (x, y) = Terrain(20, 200, 7), _coordinates()
    whole = terrain.surface(x, y)
    assert whole.dtype == np.float32
    assert whole.shape == (250, 300)
    rng = np.random.default_rng(0)
    for _ in range(50):
        row, col = int(rng.integers(0, 250)), int(rng.integers(0, 300))
        height, width = int(rng.integers(1, 251 - row)), int(rng.integers(1, 301 - col))
        part = terrain.surface(x[col : col + width], y[row : row + height])
        assert np.array_equal(part, whole[row : row + height, col : col + width])


def test_order_of_coordinates_plays_no_part() -> None:
    terrain, (x, y) = Terrain(), _coordinates()
    assert np.array_equal(terrain.surface(x[::-1], y[::-1]), terrain.surface(x, y)[::-1, ::-1])


def test_rasters_of_other_resolution_stand_on_the_same_terrain() -> None:
    terrain, (x, y) = Terrain(), _coordinates()
    assert np.array_equal(terrain.surface(x[::4], y[::4]), terrain.surface(x, y)[::4, ::4])


def test_coordinates_below_zero_are_ground_like_any_other() -> None:
    at = np.linspace(-500, 500, 401)
    surface = Terrain(10, 100, 1).surface(at, at)
    assert np.isfinite(surface).all()
    assert np.abs(np.diff(surface, axis=0)).max() < 5.0  # 2.5 m apart: no seam where the sign changes


def test_the_standard_deviation_over_much_ground_is_the_amplitude() -> None:
    at = np.arange(0, 30_000, 40.0)
    surface = Terrain(amplitude_m=20, wavelength_m=200, seed=3).surface(at, at)
    assert abs(surface.std() - 20) < 0.5
    assert abs(surface.mean()) < 0.5


def test_terrain_is_smooth_and_longer_waves_are_smoother() -> None:
    at = np.arange(0, 3000, 1.0)
    steep, gentle = (np.abs(np.diff(Terrain(20, length, 5).surface(at, at), axis=1)) for length in (200, 800))
    assert steep.max() < 3.0
    assert gentle.mean() < 0.4 * steep.mean()


def test_seeds_give_different_terrain_and_the_same_seed_the_same() -> None:
    x, y = _coordinates()
    first, again, other = (Terrain(20, 200, seed).surface(x, y) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.9
    assert not np.array_equal(first, other)


def test_no_amplitude_is_flat_ground() -> None:
    x, y = _coordinates()
    assert not Terrain(0.0, 200, 1).surface(x, y).any()


def test_tile_terrain_has_mean_zero_and_depends_on_its_generator_alone() -> None:
    first, again, other = (
        tile_terrain(np.random.default_rng(seed), 128, 1.0, std_m=5.0, wavelength_m=150.0) for seed in (4, 4, 5)
    )
    assert first.shape == (128, 128)
    assert first.dtype == np.float32
    assert abs(first.mean()) < 1e-4
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_many_tiles_together_vary_as_asked() -> None:
    rng = np.random.default_rng(0)
    tiles = [tile_terrain(rng, 256, 4.0, std_m=5.0, wavelength_m=150.0) for _ in range(40)]
    assert abs(np.std(tiles) - 5.0) < 0.5
