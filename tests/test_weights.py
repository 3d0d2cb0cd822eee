"""Edits of weights count: a prepared model holds none that could be edited in vain."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import FitConfig, Model
from jaxface.fit import (
    CCNFExperts,
    PreparedCCNFExperts,
    PreparedCLNF,
    prepare_clnf,
    response_maps,
    strip_clnf,
)
from jaxface.ops import invert_spd

from .head_clip import read_frames
from .precision import double_precision

_MAPS = 2e-5  # of peaks near 1; a covariance is made in float64 where it is prepared
_FITTED = 0.05  # px; the same weights, rounded in another order. Measured 0.0
_SLOPE = 1e-6  # relative; float64, central differences
_WINDOW, _LANDMARKS = 7, 3


@pytest.fixture(scope="module")
def model() -> Model:
    return jaxface.load_model()


@pytest.fixture(scope="module")
def face(model) -> tuple[jax.Array, jax.Array]:
    """Luma of a frame of the talking head, and the box of its face."""
    image = jnp.asarray(read_frames(1)[0])
    found = jax.jit(jaxface.detect_faces)(model.detector, image)
    return jaxface.to_gray(image), found.sized_boxes[0]


@pytest.mark.parametrize(
    "where",
    [
        lambda m: m.clnf.main.experts[0].weights,
        lambda m: m.clnf.main.experts[0].alpha,
        lambda m: m.clnf.main.experts[0].beta,
        lambda m: m.clnf.validator.weights,
    ],
)
def test_a_prepared_model_holds_no_weights_to_edit(model, where):
    with pytest.raises(AttributeError):
        eqx.tree_at(where, model, replace_fn=jnp.zeros_like)


def test_parts_are_not_edited_in_vain(model):
    """What `parts` gives of the two eyes is taken out of their stack."""
    with pytest.raises((TypeError, ValueError)):
        eqx.tree_at(
            lambda m: m.clnf.parts[0].model.pdm.mean_shape, model, replace_fn=jnp.zeros_like
        )


def test_strip_is_the_inverse_of_prepare(model):
    bare = jaxface.strip_model(model)
    assert jaxface.strip_model(bare) is bare
    again = jaxface.prepare_model(bare)
    assert isinstance(again.clnf, PreparedCLNF) and jaxface.prepare_model(again) is again
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_edits_of_shapes_survive_stripping(model):
    def shape(m):
        return m.clnf.main.pdm.mean_shape

    edited = eqx.tree_at(shape, model, shape(model) + 1)
    np.testing.assert_array_equal(shape(jaxface.strip_model(edited)), shape(edited))


def test_edits_of_biases_survive_stripping_and_other_windows(model):
    """They count in the prepared model, and so must not be lost with the windows of `wild`."""

    def biases(m):
        return m.clnf.main.experts[0].bias, m.clnf.validator.biases[-1]

    edited = eqx.tree_at(biases, model, [value + 1 for value in biases(model)])
    wild = jaxface.prepare_model(edited, jaxface.default_config(model, wild=True))
    for found in (jaxface.strip_model(edited), wild):
        for one, other in zip(biases(found), biases(edited), strict=True):
            np.testing.assert_array_equal(one, other)


def test_windows_for_stills_alone_are_prepared(model):
    config = FitConfig(windows_init=(13,), windows_track=())
    experts = prepare_clnf(model.clnf, config).main.experts[0]
    assert isinstance(experts, PreparedCCNFExperts) and 13 in experts.banks


def test_other_windows_keep_those_that_were_there(model):
    wild = jaxface.default_config(model, wild=True)
    prepared = jaxface.prepare_model(model, wild)
    experts = prepared.clnf.main.experts[0]
    assert isinstance(experts, PreparedCCNFExperts) and {11, 15} <= experts.banks.keys()


def _fit(model: Model, face) -> np.ndarray:
    fit = jax.jit(jaxface.fit_landmarks, static_argnames="config")
    single = FitConfig(
        windows_init=(11,), windows_track=(), refine_parts=False, validation_boundary=0.1
    )
    return np.asarray(fit(model.clnf, *face, config=single).landmarks)


def test_an_edited_expert_moves_its_landmark(model, face):
    """Without preparing as after it, and as nowhere else on the face."""
    bare = jaxface.strip_model(model)
    usual = _fit(model, face)
    np.testing.assert_allclose(_fit(bare, face), usual, rtol=0, atol=_FITTED)

    def experts(m):
        return [e.weights for e in m.clnf.main.experts]

    edited = eqx.tree_at(experts, bare, [w.at[:, 30].set(-w[:, 30]) for w in experts(bare)])
    raw, prepared = _fit(edited, face), _fit(jaxface.prepare_model(edited), face)
    np.testing.assert_allclose(raw, prepared, rtol=0, atol=_FITTED)
    assert np.abs(raw[30] - usual[30]).max() > 0.2


@pytest.fixture
def experts() -> CCNFExperts:
    """Small experts whose maps are coupled, one of three landmarks invisible."""
    rng = np.random.default_rng(3)
    visible = np.array([[True, True, False]])
    shown = visible[..., None]
    return CCNFExperts(
        scale=0.25,
        component_windows=(_WINDOW,),
        centres=jnp.zeros((1, 3)),
        visible=jnp.asarray(visible),
        weights=jnp.asarray(
            rng.normal(size=(1, _LANDMARKS, 2, 11, 11)) * shown[..., None, None], jnp.float32
        ),
        bias=jnp.asarray(rng.normal(size=(1, _LANDMARKS, 2)) * shown, jnp.float32),
        alpha=jnp.asarray(rng.uniform(1, 3, (1, _LANDMARKS, 2)) * shown, jnp.float32),
        beta=jnp.asarray(rng.uniform(0.1, 1, (1, _LANDMARKS, 3)) * shown, jnp.float32),
        confidence=jnp.asarray(visible, jnp.float32),
    )


def _areas(dtype: str) -> jax.Array:
    side = _WINDOW + 10
    areas = np.random.default_rng(4).uniform(0, 255, (_LANDMARKS, side, side))
    return jnp.asarray(areas, dtype)


@pytest.mark.parametrize("coupled", [True, False])
def test_maps_of_raw_and_of_prepared_experts_are_equal(experts, coupled):
    if not coupled:
        experts = dataclasses.replace(experts, component_windows=())
    prepared, view = experts.prepare(frozenset({_WINDOW})), jnp.asarray(0)
    maps = [response_maps(each, _areas("float32"), view) for each in (experts, prepared)]
    np.testing.assert_allclose(maps[0], maps[1], rtol=0, atol=_MAPS)
    assert float(maps[0][:2].min(axis=0).max()) > 0.01 and not np.asarray(maps[0][2]).any()


@pytest.mark.parametrize("name", ["weights", "bias", "alpha", "beta"])
def test_derivatives_reach_the_weights(experts, name):
    """Against central differences along a random direction, in float64."""
    with double_precision():
        wide = jax.tree.map(
            lambda x: x.astype("float64") if jnp.issubdtype(x.dtype, jnp.floating) else x, experts
        )
        areas = _areas("float64")
        rng = np.random.default_rng(5)
        weigh = jnp.asarray(rng.normal(size=(_LANDMARKS, _WINDOW, _WINDOW)))
        value = getattr(wide, name)
        way = jnp.asarray(rng.normal(size=value.shape))

        def total(value):
            changed = eqx.tree_at(lambda e: getattr(e, name), wide, value)
            return jnp.sum(weigh * response_maps(changed, areas, jnp.asarray(0)))

        slope = float(jnp.sum(jax.grad(total)(value) * way))
        step = 1e-6
        difference = float(total(value + step * way) - total(value - step * way)) / (2 * step)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, difference, rtol=_SLOPE, atol=_SLOPE)


def test_edits_survive_where_a_model_is_prepared_again(model):
    bare = strip_clnf(model.clnf)
    edited = eqx.tree_at(lambda c: c.main.experts[0].bias, bare, replace_fn=lambda b: b + 1)
    found = jaxface.prepare_model(dataclasses.replace(model, clnf=edited)).clnf.main.experts[0]
    assert isinstance(found, PreparedCCNFExperts)
    before = bare.main.experts[0]
    assert isinstance(before, CCNFExperts)
    np.testing.assert_array_equal(found.bias, before.bias + 1)


def test_inverses_and_their_derivatives():
    rng = np.random.default_rng(6)
    roots = rng.normal(size=(4, 9, 9))
    matrices = roots @ roots.swapaxes(1, 2) + 3 * np.eye(9)
    np.testing.assert_allclose(
        invert_spd(jnp.asarray(matrices, jnp.float32)), np.linalg.inv(matrices), atol=1e-5
    )
    with double_precision():
        wide, way = jnp.asarray(matrices), jnp.asarray(rng.normal(size=matrices.shape))
        way = way + way.swapaxes(1, 2)
        _, found = jax.jvp(invert_spd, (wide,), (way,))
        step = 1e-6
        differences = (invert_spd(wide + step * way) - invert_spd(wide - step * way)) / (2 * step)
        np.testing.assert_allclose(found, differences, atol=1e-7)
