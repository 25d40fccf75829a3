import json
import math
import sys
from importlib.metadata import version

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray
from models import networks

import pyro_gan
from pyro_gan.export import plate_names, to_inference_data

pytestmark = [
    # ArviZ 0.x announces 1.x once a day, as a warning at its import.
    pytest.mark.filterwarnings(r"ignore:\s*ArviZ is undergoing a major refactor:FutureWarning"),
    # ArviZ 0.23 calls what matplotlib 3.11 and pandas 3.1 deprecate.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:arviz"),
]

NUM_DRAWS, NUM_ROWS, NUM_CLASSES = 40, 15, 3
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR)


HISTORY = {
    "step": [1, 2, 3, 4],
    "generator_loss": [0.7, 0.8, math.nan, 1.0],
    "discriminator_loss": [1.4, 1.3, 1.2, 1.1],
}
FITTED = {
    "posterior": {"z": normal(NUM_DRAWS, 2).double(), "scale": normal(NUM_DRAWS).double().exp()},
    "posterior_predictive": {"x": normal(NUM_DRAWS, NUM_ROWS, 2)},
    "prior": {"z": normal(NUM_DRAWS, 2), "eps": normal(NUM_DRAWS, NUM_ROWS, 3)},
    "prior_predictive": {"x": normal(NUM_DRAWS, NUM_ROWS, 2)},
    "observed_data": {"x": normal(NUM_ROWS, 2)},
    "constant_data": {"label": torch.arange(NUM_ROWS) % NUM_CLASSES},
    "history": HISTORY,
    "dims": {"x": ["data"], "eps": ["data", "noise"], "label": ["data"]},
    "coords": {"noise": ["a", "b", "c"]},
    "seed": 2**64 - 1,
    "settings": {"loss": "NonSaturating", "clip_norm": None, "device": torch.device("cpu")},
}
GROUPS = {
    "posterior": {"z": ("chain", "draw", "z_dim_0"), "scale": ("chain", "draw")},
    "posterior_predictive": {"x": ("chain", "draw", "data", "x_dim_0")},
    "prior": {"z": ("chain", "draw", "z_dim_0"), "eps": ("chain", "draw", "data", "noise")},
    "prior_predictive": {"x": ("chain", "draw", "data", "x_dim_0")},
    "observed_data": {"x": ("data", "x_dim_0")},
    "constant_data": {"label": ("data",)},
    "training_history": {"generator_loss": ("chain", "step"), "discriminator_loss": ("chain", "step")},
}


def is_0(arviz):
    return int(arviz.__version__.split(".")[0]) < 1


@pytest.fixture(params=["arviz", "arviz_base"])
def interface(request, monkeypatch):
    """The interface of the ArviZ that is there, and of ArviZ 1.x where its `arviz_base` stands beside ArviZ 0.x."""
    library = pytest.importorskip(request.param)
    if request.param == "arviz_base":
        monkeypatch.setitem(sys.modules, "arviz", None)  # as if it were not installed
    return library


@pytest.fixture
def az():
    """ArviZ 0.x, whose plots differ from those of 1.x."""
    arviz = pytest.importorskip("arviz")
    if not is_0(arviz):
        pytest.skip("needs ArviZ 0.x")
    yield arviz
    plt.close("all")


@pytest.fixture
def az1():
    """ArviZ 1.x with its plots, from Python 3.12 on."""
    arviz = pytest.importorskip("arviz")
    if is_0(arviz):
        pytest.skip("needs ArviZ 1.x")
    yield arviz
    plt.close("all")


def groups_of(exported):
    names = exported.children if isinstance(exported, xarray.DataTree) else exported.groups()
    return {name: {site: exported[name][site].dims for site in exported[name].data_vars} for name in names}


def load(interface, path):
    if interface.__name__ == "arviz" and is_0(interface):
        return interface.from_netcdf(path)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        return tree.load()


def assert_holds(exported, fitted=FITTED):
    assert groups_of(exported) == GROUPS
    for group, sites in GROUPS.items():
        given = fitted["history" if group == "training_history" else group]
        for site in sites:
            values = np.asarray(given[site])
            expected = values[None] if "chain" in sites[site] else values
            np.testing.assert_array_equal(exported[group][site].values, expected)
            assert exported[group][site].dtype == values.dtype
    assert exported["training_history"]["step"].values.tolist() == HISTORY["step"]
    assert exported["prior"]["noise"].values.tolist() == ["a", "b", "c"]
    assert exported["posterior"]["draw"].values.tolist() == list(range(NUM_DRAWS))
    assert exported["posterior"]["chain"].values.tolist() == [0]


def test_groups_hold_what_was_given(interface):
    exported = to_inference_data(**FITTED)
    is_tree = interface.__name__ == "arviz_base" or not is_0(interface)
    assert type(exported).__name__ == ("DataTree" if is_tree else "InferenceData")
    assert_holds(exported)


def test_attributes_say_what_made_it(interface):
    exported = to_inference_data(**FITTED)
    settings = {"loss": "NonSaturating", "clip_norm": None, "device": "cpu"}
    assert json.loads(exported.attrs["settings"]) == settings
    assert {name: value for name, value in exported.attrs.items() if name != "settings"} == {
        "pyro_gan_version": pyro_gan.__version__,
        "pyro_version": pyro.__version__,
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "arviz_version": interface.__version__,
        "seed": 2**64 - 1,
    }
    for group in GROUPS:
        assert exported[group].attrs["inference_library"] == "pyro_gan"
        assert exported[group].attrs["inference_library_version"] == version("pyro_gan")
        assert "created_at" in exported[group].attrs


def test_netcdf_gives_back_what_was_saved(interface, tmp_path):
    exported = to_inference_data(**FITTED)
    path = tmp_path / "fitted.nc"
    exported.to_netcdf(path, engine="h5netcdf")
    loaded = load(interface, path)
    assert_holds(loaded)
    assert dict(loaded.attrs) == exported.attrs
    for name, value in exported["prior"].attrs.items():
        assert np.array_equal(loaded["prior"].attrs[name], value), name


def test_only_the_given_groups_are_there(interface):
    exported = to_inference_data(posterior={"z": [0.1, 0.2]}, history={name: [] for name in HISTORY})
    assert groups_of(exported) == {"posterior": {"z": ("chain", "draw")}}
    assert not {"seed", "settings"} & set(exported.attrs)
    assert groups_of(to_inference_data(history=HISTORY)) == {"training_history": GROUPS["training_history"]}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (torch.ones(5, 2, requires_grad=True), "float32"),
        (torch.nn.Parameter(torch.ones(5, 2, dtype=torch.float64)), "float64"),
        (torch.ones(5, 2, dtype=torch.bfloat16), "float32"),
        (torch.ones(5, 2, dtype=torch.float16), "float16"),
        (torch.ones(5, 2, dtype=torch.bool), "bool"),
        (np.ones((5, 2), np.uint8), "uint8"),
        (np.ones((2, 5)).T, "float64"),
        ([[1, 1]] * 5, "int64"),
    ],
)
def test_tensors_arrays_and_lists_of_any_real_numbers_are_saved(interface, values, dtype, tmp_path):
    path = tmp_path / "values.nc"
    to_inference_data(prior={"z": values}).to_netcdf(path, engine="h5netcdf")
    loaded = load(interface, path)["prior"]["z"]
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded.values, np.ones((1, 5, 2)))


def test_slashes_in_names_become_dots(interface, tmp_path):
    exported = to_inference_data(
        prior={"encoder/z": normal(5, 3, 2)}, dims={"encoder/z": ["my/data"]}, coords={"my/data": ["a", "b", "c"]}
    )
    exported.to_netcdf(tmp_path / "named.nc", engine="h5netcdf")
    loaded = load(interface, tmp_path / "named.nc")["prior"]["encoder.z"]
    assert loaded.dims == ("chain", "draw", "my.data", "encoder.z_dim_0")
    assert loaded["my.data"].values.tolist() == ["a", "b", "c"]


def test_axes_without_a_name_take_the_sites(interface):
    exported = to_inference_data(
        prior={"z": normal(5, 2, 3, 4)}, observed_data={"x": normal(6)}, dims={"z": [None, "data"]}
    )
    assert exported["prior"]["z"].dims == ("chain", "draw", "z_dim_0", "data", "z_dim_1")
    assert exported["observed_data"]["x"].dims == ("x_dim_0",)


def test_replicated_data_may_have_other_numbers_of_rows_and_draws(interface):
    exported = to_inference_data(
        prior={"eps": normal(7, 4)},
        posterior_predictive={"x": normal(5, 4, 2)},
        observed_data={"x": normal(6, 2)},
        dims={"x": ["data"]},
    )
    assert exported["prior"].sizes["draw"] == 7
    assert exported["posterior_predictive"].sizes["data"] == 4
    assert exported["observed_data"].sizes["data"] == 6


def test_nothing_that_was_passed_is_changed(interface):
    draws, dims, coords = {"a/z": normal(5, 2)}, {"a/z": ["k"]}, {"k": [0, 1]}
    history = {name: list(values) for name, values in HISTORY.items()}
    to_inference_data(prior=draws, dims=dims, coords=coords, history=history)
    assert (list(draws), dims, coords, list(history)) == (["a/z"], {"a/z": ["k"]}, {"k": [0, 1]}, list(HISTORY))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "there is nothing to export. Pass draws, data or a history that is not empty"),
        ({"history": {"step": []}}, ValueError, "there is nothing to export"),
        ({"prior": {}}, ValueError, "prior is empty. Leave it out, or pass the values of at least one site"),
        ({"prior": normal(5)}, TypeError, "prior must be a mapping from names to values, but is Tensor"),
        ({"prior": {3: normal(5)}}, TypeError, "names of sites, .* must be strings, but one is 3"),
        (
            {"prior": {"a/z": normal(5), "a.z": normal(5)}},
            ValueError,
            "two names in prior differ only in '/' and '.', and a '/' becomes a '.'. Rename one",
        ),
        ({"prior": {"z": "often"}}, TypeError, r"prior\['z'\] must hold real numbers, but is of type <U5. Convert it"),
        ({"prior": {"z": [1.0, None]}}, TypeError, r"prior\['z'\] must hold real numbers, but is of type object"),
        ({"prior": {"z": normal(2) * 1j}}, TypeError, "must hold real numbers, but is of type complex64"),
        ({"prior": {"z": [[1.0], [1.0, 2.0]]}}, ValueError, r"prior\['z'\] is no array: .* Pass rows of equal shapes"),
        (
            {"prior": {"z": normal(0, 2)}},
            ValueError,
            r"prior\['z'\] has shape \(0, 2\), but expected at least one",
        ),
        ({"observed_data": {"x": 1.0}}, ValueError, r"observed_data\['x'\] has shape \(\), but expected at least one"),
        (
            {"posterior": {"z": torch.tensor([0.0, math.nan])}},
            ValueError,
            r"posterior\['z'\] holds NaN or infinity. Check the model, or leave such draws and rows out",
        ),
        ({"observed_data": {"x": [math.inf]}}, ValueError, r"observed_data\['x'\] holds NaN or infinity"),
        (
            {"prior": {"z": normal(5), "eps": normal(4, 2)}},
            ValueError,
            "prior has 5 draws of 'z', but 4 of 'eps'. Pass equally many draws of all",
        ),
        ({"history": {"loss": [1.0]}}, ValueError, "history has no 'step', but 'loss'. Pass inference.history"),
        (
            {"history": {"step": [1, 2], "loss": [0.1]}},
            ValueError,
            "training_history has 2 entries of 'step', but 1 of 'loss'. Pass equally many entries of all",
        ),
        (
            {"prior": {"z": normal(5)}, "dims": {"y": ["data"]}},
            ValueError,
            "dims names the axes of 'y', which is in no group; there are 'z'",
        ),
        (
            {"prior": {"z": normal(5, 2)}, "dims": {"z": "data"}},
            TypeError,
            r"dims\['z'\] must be a list of names, but is 'data'. Pass a list, such as \['data'\]",
        ),
        ({"prior": {"z": normal(5, 2)}, "dims": {"z": [1]}}, TypeError, "must be strings, but one is 1"),
        (
            {"prior": {"z": normal(5, 2, 2)}, "dims": {"z": ["data", "data"]}},
            ValueError,
            "names must differ, and 'chain', 'draw', 'step' are added where they belong. Name the other axes alone",
        ),
        ({"prior": {"z": normal(5, 2)}, "dims": {"z": ["draw"]}}, ValueError, "names must differ, and 'chain', 'draw'"),
        (
            {"prior": {"z": normal(5, 2)}, "dims": {"z": ["data", "time"]}},
            ValueError,
            r"dims\['z'\] names 2 axes, \['data', 'time'\], but in prior the site has shape \(2,\) at each draw",
        ),
        (
            {"observed_data": {"x": normal(5)}, "dims": {"x": ["data", "time"]}},
            ValueError,
            r"but in observed_data the site has shape \(5,\). Drop a name, or draw the site in its plate",
        ),
        (
            {"prior": {"z": normal(5, 2), "y": normal(5, 3)}, "dims": {"z": ["data"], "y": ["data"]}},
            ValueError,
            r"dimension 'data' has length 2 in prior\['z'\], but 3 in prior\['y'\]. Give axes of different lengths",
        ),
        (
            {"prior": {"z": normal(5, 2)}, "dims": {"z": ["data"]}, "coords": {"data": ["a", "b", "c"]}},
            ValueError,
            r"dimension 'data' has length 3 in coords\['data'\], but 2 in prior\['z'\]",
        ),
        (
            {"prior": {"z": normal(5)}, "coords": {"data": [1, 2]}},
            ValueError,
            "coords names 'data', which is no dimension; there are 'chain', 'draw'. Name it in dims",
        ),
        (
            {"prior": {"z": normal(5, 2)}, "dims": {"z": ["data"]}, "coords": {"data": [[1, 2]]}},
            ValueError,
            r"coords\['data'\] has shape \(1, 2\), but expected a list of what stands along it",
        ),
        (
            {"prior": {"z": normal(5, 2)}, "dims": {"z": ["z"]}},
            ValueError,
            r"prior\['z'\] has the name of a dimension. Rename the site or the dimension",
        ),
        (
            {"posterior_predictive": {"x": normal(50)}, "observed_data": {"x": normal(6)}},
            ValueError,
            r"each draw of posterior_predictive\['x'\] has shape \(\), but observed_data\['x'\] has \(6,\). "
            r"Draw a whole data set each time: pass draws with shape \(num_draws, num_rows, \*event_shape\)",
        ),
        (
            {"prior_predictive": {"x": normal(5, 6, 3)}, "observed_data": {"x": normal(6, 2)}},
            ValueError,
            r"each draw of prior_predictive\['x'\] has shape \(6, 3\), but observed_data\['x'\] has \(6, 2\)",
        ),
        ({"prior": {"z": normal(5)}, "seed": "now"}, TypeError, r"seed must be an integer, but is 'now' \(str\)"),
    ],
)
def test_what_does_not_fit_is_refused(interface, arguments, error, message):
    with pytest.raises(error, match=message):
        to_inference_data(**arguments)


def test_a_missing_arviz_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ImportError, match=r"needs ArviZ, which is not installed. Install it: pip install arviz"):
        to_inference_data(prior={"z": normal(5)})


def test_a_broken_arviz_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "arviz.py").write_text("import a_library_that_arviz_needs")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "arviz", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_library_that_arviz_needs"):
        to_inference_data(prior={"z": normal(5)})


def distributed_nodes(trace):
    """The sites, without those that a plate adds for itself."""
    return {name: node for name, node in trace.nodes.items() if hasattr(node.get("fn"), "batch_shape")}


def names_of_axes(model):
    trace = pyro.poutine.trace(model).get_trace()
    return {name: plate_names(node) for name, node in distributed_nodes(trace).items()}


def test_plates_name_the_axes():
    def model():
        noise = dist.Normal(0.0, 1.0)
        pyro.sample("scale", noise)
        pyro.sample("unnamed", noise.expand([4]))
        groups = pyro.plate("groups", 3, dim=-2)
        data = pyro.plate("data", 10, subsample_size=5, dim=-1)
        with groups:
            pyro.sample("group", noise.expand([2]).to_event(1))
        with data:
            row = pyro.sample("row", noise)
            pyro.deterministic("counted", row, event_dim=0)
            pyro.deterministic("uncounted", row[:, None] * torch.ones(7))
            pyro.deterministic("total", row.sum())
        with groups, data:
            pyro.sample("both", noise)

    assert names_of_axes(model) == {
        "scale": [],
        "unnamed": [None],
        "group": ["groups", None],
        "row": ["data"],
        "counted": ["data"],
        "uncounted": ["data"],
        "total": [],
        "both": ["groups", "data"],
    }


def test_a_loop_over_a_plate_names_nothing():
    def model():
        for i in pyro.plate("loop", 2):
            pyro.sample(f"z{i}", dist.Normal(0.0, 1.0))

    assert names_of_axes(model) == {"z0": [], "z1": []}


def fitted_gan():
    generator, discriminator = networks(num_features=1)

    def model(batch_size=NUM_ROWS):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", generator(eps))

    inference = pyro_gan.GANInference(model, discriminator)
    return inference.run(2.0 + normal(200, 1), num_steps=5, batch_size=50, progress=False)


@pytest.fixture
def exported_gan():
    return fitted_gan().to_inference_data(2.0 + normal(NUM_ROWS, 1), num_draws=NUM_DRAWS)


def test_a_fitted_gan_is_exported_with_its_plates(exported_gan):
    history = ("generator_loss", "discriminator_loss", "penalty", "real_probability", "fake_probability")
    assert groups_of(exported_gan) == {
        "prior": {"eps": ("chain", "draw", "data", "eps_dim_0")},
        "posterior_predictive": {"x": ("chain", "draw", "data", "x_dim_0")},
        "observed_data": {"x": ("data", "x_dim_0")},
        "training_history": dict.fromkeys(history, ("chain", "step")),
    }
    assert exported_gan["posterior_predictive"]["x"].shape == (1, NUM_DRAWS, NUM_ROWS, 1)
    assert exported_gan["training_history"]["step"].values.tolist() == [1, 2, 3, 4, 5]


def test_plot_ppc_works_at_once_on_a_gan(az, exported_gan):
    axes = az.plot_ppc(exported_gan)
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["Posterior predictive", "Observed", "Posterior predictive mean"]
    az.plot_ppc(exported_gan, kind="cumulative", num_pp_samples=10, random_seed=0)
    az.plot_ppc(exported_gan, kind="scatter", flatten=[], coords={"data": [0, 1]}, random_seed=0)


def test_arviz_summarizes_the_noise_of_a_gan(az, exported_gan):
    table = az.summary(exported_gan, group="prior", coords={"data": 0}, kind="stats", round_to="none")
    noise = exported_gan["prior"]["eps"].values[0, :, 0].astype("float64")
    assert list(table.index) == ["eps[0]", "eps[1]"]
    np.testing.assert_allclose(table["mean"], noise.mean(0), atol=1e-6)  # ArviZ adds up in single precision
    np.testing.assert_allclose(table["sd"], noise.std(0, ddof=1), atol=1e-6)


@pytest.fixture
def exported():
    return to_inference_data(**FITTED)


def test_arviz_plots_what_is_exported(az, exported):
    assert az.plot_posterior(exported).shape == (3,)
    az.plot_posterior(exported, group="prior", var_names=["z"])
    az.plot_pair(exported, var_names=["z", "scale"])
    az.plot_pair(exported, group="prior", var_names=["z"])
    assert az.plot_trace(exported).shape == (2, 2)
    az.plot_trace(exported["prior"], var_names=["z"])
    assert az.plot_rank(exported).shape == (3,)
    az.plot_rank(exported["prior"], var_names=["z"])
    scale = exported["posterior"]["scale"].values.ravel()
    az.plot_ecdf(scale, eval_points=np.unique(scale))
    az.plot_ppc(exported)
    az.plot_ppc(exported, group="prior", observed=True)
    az.plot_dist_comparison(exported, var_names=["z"])


def test_arvizs_summary_agrees_with_the_draws(az, exported):
    table = az.summary(exported, round_to="none")
    assert list(table.index) == ["z[0]", "z[1]", "scale"]
    np.testing.assert_allclose(table["mean"], [*FITTED["posterior"]["z"].mean(0), FITTED["posterior"]["scale"].mean()])
    assert table["ess_bulk"].between(1, 2 * NUM_DRAWS).all()


def test_arviz_reads_the_groups_by_its_own_names(az, exported):
    assert az.extract(exported, num_samples=7, rng=0).sizes["sample"] == 7
    assert set(exported.to_dataframe(groups="posterior")) >= {"chain", "draw"}
    assert "training_history" in exported._repr_html_()


def test_several_fits_are_chains(az, exported):
    other = {**FITTED["posterior"], "scale": FITTED["posterior"]["scale"] + 10}
    both = az.concat(exported, to_inference_data(**{**FITTED, "posterior": other}), dim="chain")
    assert {both[group].sizes["chain"] for group in GROUPS if "chain" in both[group].dims} == {2}
    r_hat = az.summary(both, round_to="none")["r_hat"]
    assert r_hat["scale"] > 1.5 > 1.1 > r_hat["z[0]"]


def test_arviz_1_plots_what_is_exported(az1, exported, exported_gan):
    az1.plot_ppc_dist(exported_gan, num_samples=NUM_DRAWS)
    az1.plot_ppc_dist(exported_gan, num_samples=NUM_DRAWS, kind="ecdf")
    az1.plot_dist(exported)
    az1.plot_dist(exported, group="prior", var_names=["z"], kind="ecdf")
    az1.plot_pair(exported, var_names=["z", "scale"])
    az1.plot_trace(exported)
    chains = xarray.concat([exported["posterior"].to_dataset()] * 2, dim="chain")
    az1.plot_rank(chains.assign_coords(chain=[0, 1]))
    az1.plot_prior_posterior(exported, var_names=["z"])
    table = az1.summary(exported, round_to="none")
    assert list(table.index) == ["z[0]", "z[1]", "scale"]
    assert list(az1.summary(exported, group="prior", var_names=["z"]).index) == ["z[0]", "z[1]"]


def test_the_export_of_an_inference_says_what_it_was(exported_gan):
    settings = json.loads(exported_gan.attrs["settings"])
    assert (settings["algorithm"], settings["num_steps_taken"]) == ("GANInference", 5)


def test_a_conditional_model_written_for_svi_is_exported_with_its_covariates():
    def model(c, x):
        weight = pyro.param("weight", torch.tensor(0.5))
        with pyro.plate("data", len(c)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(weight * c + z, 0.1), obs=x)

    network = torch.nn.Linear(1, 1)
    inference = pyro_gan.GANInference(model, lambda x: network(x[:, None]))
    c, x = normal(30), normal(30)
    exported = inference.to_inference_data(c, x, num_draws=7)
    assert groups_of(exported) == {
        "prior": {"z": ("chain", "draw", "data")},
        "posterior_predictive": {"x": ("chain", "draw", "data")},
        "observed_data": {"x": ("data",)},
        "constant_data": {"c": ("data",)},
    }
    np.testing.assert_allclose(exported["constant_data"]["c"], c)
    np.testing.assert_allclose(exported["observed_data"]["x"], x)
    drawn, noise = exported["posterior_predictive"]["x"].values, exported["prior"]["z"].values
    np.testing.assert_allclose((drawn - noise - 0.5 * c.numpy()).std(), 0.1, rtol=0.3)


@pytest.mark.parametrize("num_draws", [0, 2.5])
def test_the_number_of_draws_is_checked(num_draws):
    with pytest.raises((TypeError, ValueError), match="num_draws must be a positive integer"):
        fitted_gan().to_inference_data(normal(5, 1), num_draws=num_draws)
