"""Generative adversarial inference (Goodfellow et al. 2014)."""

from pyro_gan.inference.base import AdversarialInference
from pyro_gan.players.batch import Batch
from pyro_gan.training.samples import Samples


class GANInference(AdversarialInference):
    r"""Fits an implicit model by learning to tell its draws from the data.

    Args:
        model: A Pyro model that can be sampled; its density is never used. It is called as `SVI.step` would call it,
            `model(*batch)`, or without the data where it takes none; a parameter named `batch_size` is given the number
            of rows. Arguments that are no compared rows are conditions, such as labels (`run((x, labels))` for
            `model(labels)`). Its parameters come from `pyro.module`, `pyro.param` or a `PyroModule`.
        discriminator: A callable that returns one logit a row: an `nn.Module`, a function over one, or a function that
            registers its parameters with Pyro. It is called with the compared site's rows, with shape :math:`(N, *)`,
            or with several sites' rows by name, and returns shape :math:`(N,)` or :math:`(N, 1)`. Conditions are given
            to it where it takes them: by name, or behind the only site's rows. For a model in stages a mapping of such
            by site, `{"draft": ..., "image": ...}`: each judges its own site, with other sites and conditions that it
            names among its arguments, and their losses add; these sites are then the compared ones. By default an
            :class:`~pyro_gan.AutoDiscriminator`, which builds itself.
        optim: The generator's optimizer: a `pyro.optim.PyroOptim`, or a callable from parameters to a torch optimizer
            or to a schedule over one. By default :func:`~pyro_gan.recipes.default_optimizer`: Adam with
            :math:`\beta = (0, 0.99)` and rate 0.002, which falls to 0 in the second half of a run.
        optim_d: The discriminator's optimizer, likewise.
        loss: What the players minimize, from :mod:`pyro_gan.losses`, or a pair of callables for the discriminator and
            the generator; by default :class:`~pyro_gan.losses.Relativistic`.
        penalty: What is added to the discriminator's loss: from :mod:`pyro_gan.penalties`, any callable on a
            :class:`~pyro_gan.penalties.Judgement`, or a list of them. By default, where no loss is given either,
            :class:`~pyro_gan.penalties.ZeroCentredGradientPenalty` (:mod:`pyro_gan.recipes`); with a loss, none.
        site: The compared site's name, or several; by default the model's only deterministic, Delta or observed
            reparameterized site. An observed site is drawn afresh.
        discriminator_steps: The updates of the discriminator in a step, k in the 2014 paper.
        generator_steps: The updates of the generator in a step.
        only: The names of the model's parameters to train, or the beginnings of names up to a dot, such as
            `"generator"`; by default all.
        exclude: The names of those not to train.
        share_draws: Whether the generator is judged on the rows that the discriminator has just been trained on, so
            that the model runs once a step. By default it draws anew, as in the 2014 paper.
        matching_aware: Whether the discriminator is shown real rows with the condition of another row too, as fake
            ones, which count half (Reed et al. 2016, GAN-CLS). The generator then draws what fits its condition more
            clearly than the data do, and :meth:`log_ratio` is that to the mixture of both kinds.
        interpolate_conditions: Whether the generator draws rows given the middle between two conditions too, and adds
            the loss of these (Reed et al. 2016, GAN-INT, equation 5). Conditions have to be of floating point.
        ema_decay: The decay of a moving average of the generator's parameters, such as 0.999, which
            `sample(..., averaged=True)` uses; by default none is kept.
        clip_norm: The largest norm of the generator's gradient.
        clip_norm_d: The largest norm of the discriminator's gradient.
        on_divergence: What happens where an update would not be finite: `"raise"` ends with an error before it is made,
            `"skip"` leaves it out and warns, up to 100 times in a row.
        device: Where to work, such as `"cuda"`; the modules and the data are moved there. By default nothing is moved,
            and the data go where the discriminator's parameters are.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: An argument's value does not fit, or the device is not available.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> pyro.set_rng_seed(0)
        >>> pyro.clear_param_store()
        >>> def model(batch_size):
        ...     loc = pyro.param("loc", torch.tensor(0.0))
        ...     with pyro.plate("data", batch_size):
        ...         eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        ...         return pyro.deterministic("x", loc + eps, event_dim=0)
        >>> hidden = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        >>> inference = GANInference(model, lambda x: hidden(x[:, None]))
        >>> inference = inference.run(2.0 + torch.randn(1000), num_steps=10, progress=False)
        >>> inference.sample(3).shape
        torch.Size([3])

    References:
        Goodfellow et al. (2014), "Generative Adversarial Nets", algorithm 1.
        Mirza and Osindero (2014), "Conditional Generative Adversarial Nets", equation 2 (conditions).
        Reed et al. (2016), "Generative Adversarial Text to Image Synthesis", algorithm 1 (`matching_aware`).
        Zhang et al. (2017), "StackGAN", section 3 (stages).
    """

    def draw(self, batch: Batch) -> Samples:
        arguments = self.model.calls.arguments(batch)
        draw = self.model.draw(arguments)
        real = self.model.calls.real(draw, arguments, batch)
        return self.with_given(Samples(real, draw.values, draw.parameters, draw.log_factor), batch)
