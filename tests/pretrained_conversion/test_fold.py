"""Folding and layout against the definition, in float64."""

import numpy as np
import pytest

from pretrained_conversion.fold import fold_batch_norm, source_shapes, to_kernel


def correlate(picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(C, H, W) with (C', C, h, w), no padding, by the definition."""
    out_channels, _, rows, columns = weight.shape
    height, width = picture.shape[1] - rows + 1, picture.shape[2] - columns + 1
    result = np.zeros((out_channels, height, width))
    for o in range(out_channels):
        for i in range(height):
            for j in range(width):
                result[o, i, j] = (picture[:, i : i + rows, j : j + columns] * weight[o]).sum()
    return result


@pytest.mark.parametrize("with_bias", [False, True])
def test_a_folded_convolution_is_convolution_then_batch_norm(with_bias):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 3, 3, 2)).astype(np.float32)
    bias = rng.standard_normal(5).astype(np.float32) if with_bias else None
    gamma, beta, mean = rng.standard_normal((3, 5)).astype(np.float32)
    variance = rng.uniform(1e-6, 3, 5).astype(np.float32)
    picture = rng.standard_normal((3, 6, 7))

    column = (slice(None), None, None)
    plain = correlate(picture, weight) + (0 if bias is None else bias[column])
    expected = (plain - mean[column]) / np.sqrt(variance.astype(np.float64)[column] + 1e-3)
    expected = expected * gamma[column] + beta[column]

    folded, shift = fold_batch_norm(
        weight, bias, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=1e-3
    )
    assert folded.dtype == shift.dtype == np.float64
    np.testing.assert_allclose(correlate(picture, folded) + shift[column], expected, rtol=1e-12, atol=1e-12)


def test_a_linear_layer_folds_too():
    folded, shift = fold_batch_norm(
        np.full((2, 3), 2.0),
        None,
        gamma=np.array([1.0, 3.0]),
        beta=np.array([0.0, 1.0]),
        mean=np.array([1.0, 2.0]),
        variance=np.array([4.0, 0.0]),
        epsilon=0.25,
    )
    np.testing.assert_allclose(folded, [[2 / np.sqrt(4.25)] * 3, [12.0] * 3])
    np.testing.assert_allclose(shift, [-1 / np.sqrt(4.25), -11.0])


def test_layout_of_a_convolution():
    weight = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    kernel = to_kernel(weight, (4, 5, 3, 2))
    assert kernel.shape == (4, 5, 3, 2)
    for o, i, h, w in np.ndindex(weight.shape):
        assert kernel[h, w, i, o] == weight[o, i, h, w]


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((2, 3), (3, 2)), ((2, 3, 1, 1), (3, 2)), ((2, 3), (1, 1, 3, 2)), ((2, 3, 1, 1), (1, 1, 3, 2))],
)
def test_linear_layers_and_1_by_1_convolutions_stand_for_each_other(shape, kernel):
    assert shape in source_shapes(kernel)
    weight = np.arange(6).reshape(shape)
    np.testing.assert_array_equal(to_kernel(weight, kernel).reshape(3, 2), weight.reshape(2, 3).T)


def test_a_linear_layer_is_no_3_by_3_convolution():
    assert source_shapes((3, 3, 4, 8)) == {(8, 4, 3, 3)}
