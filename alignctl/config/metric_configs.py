"""Which similarities are measured, each with the options that are its own, and their full names."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from alignctl.config.base import ConfigModel
from alignctl.config.load import parse_yaml
from alignctl.config.validation import config_error, unknown
from alignctl.errors import ConfigError


def _text(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


Distance = Literal["cosine", "correlation", "sqeuclidean", "euclidean"]
Correlation = Literal["pearson", "spearman", "kendall"]


class MetricConfig(ConfigModel):
    """One similarity of two representations of the same images."""

    sampling: ClassVar[tuple[str, ...]] = ()
    """Options that only matter where there are more images than are compared exactly."""

    def is_sampled(self, num_images: int) -> bool:
        """Whether this many images are too many to be compared exactly."""
        return False

    def inapplicable(self) -> set[str]:
        """Options that have no meaning beside the others."""
        return set()

    def drawn(self) -> set[str]:
        """Sampling options that matter for any number of images."""
        return set()

    @property
    def identifier(self) -> str:
        """The metric's name in every table: `cka kernel=linear hsic=debiased`.

        It does not depend on the number of images: the options of the sample stand in it where they
        are not the usual ones. `parse_metric` reads it back.
        """
        fields = type(self).model_fields
        usual = {name for name in self.sampling if getattr(self, name) == fields[name].default}
        return self._named_without(usual - self.drawn())

    @property
    def exact_identifier(self) -> str:
        """The name without the options of the sample: what is computed where none is taken."""
        return self._named_without(set(self.sampling) - self.drawn())

    @property
    def sampled_identifier(self) -> str:
        """The name with all options of the sample, for people who read of one."""
        return self._named_without(set())

    def exact_up_to(self, num_images: int) -> Self:
        """The same metric with a limit that lets so many images be compared without a sample."""
        limits = {"images": num_images, "pairs": max(1, num_images * (num_images - 1) // 2)}
        values = {name: limits[name] for name in self.sampling if name in limits}
        return self.model_copy(update=values)

    def _named_without(self, options: set[str]) -> str:
        hidden = {"name"} | options | self.inapplicable()
        values = self.model_dump(exclude=hidden, exclude_none=True)
        name = str(getattr(self, "name"))  # noqa: B009 (every member has one)
        return " ".join([name, *(f"{key}={_text(value)}" for key, value in values.items())])


class CkaConfig(MetricConfig):
    """Centred kernel alignment."""

    sampling: ClassVar[tuple[str, ...]] = ("images", "seed")
    name: Literal["cka"] = "cka"
    kernel: Literal["linear", "cosine", "rbf"] = "linear"
    """cosine: linear on unit rows; rbf: Gaussian."""
    hsic: Literal["biased", "debiased"] = "biased"
    """biased: as first published; debiased: HSIC_1, not raised by a small number of images."""
    bandwidth: PositiveFloat = 1.0
    """Of the rbf kernel, in units of the median distance of two images."""
    batch_size: Annotated[int, Field(ge=4)] | None = None
    """Average HSIC over batches of so many images, as minibatch CKA does."""
    images: PositiveInt = 10_000
    """How many images the rbf kernel takes at most: above, a random sample."""
    seed: int = 0
    """Of the sample, or of which images form a batch."""

    @model_validator(mode="after")
    def _options_fit(self) -> "CkaConfig":
        for option in ("bandwidth", "images"):
            if self.kernel != "rbf" and option in self.model_fields_set:
                raise ValueError(f"{option} is an option of kernel=rbf")
        if "seed" in self.model_fields_set and self.kernel != "rbf" and self.batch_size is None:
            raise ValueError("seed is an option of kernel=rbf and of batch_size")
        if self.batch_size is not None and (self.kernel, self.hsic) != ("linear", "debiased"):
            raise ValueError("batch_size is an option of kernel=linear hsic=debiased")
        return self

    def inapplicable(self) -> set[str]:
        """Options that the others leave without a meaning."""
        if self.kernel == "rbf":
            return set()
        return {"bandwidth", "images"} | ({"seed"} if self.batch_size is None else set())

    def drawn(self) -> set[str]:
        """Sampling options that always matter: batches are drawn of any number of images."""
        return set() if self.batch_size is None else {"seed"}

    def is_sampled(self, num_images: int) -> bool:
        """Whether this many images are too many to be compared exactly."""
        return self.kernel == "rbf" and num_images > self.images


class RsaConfig(MetricConfig):
    """Correlation of dissimilarity matrices."""

    sampling: ClassVar[tuple[str, ...]] = ("pairs", "seed")
    name: Literal["rsa"] = "rsa"
    distance: Distance = "cosine"
    correlation: Correlation = "pearson"
    pairs: PositiveInt = 10_000_000
    """How many pairs are compared at most where there is no closed form: above, a sample."""
    seed: int = 0
    """Of the sample."""

    @model_validator(mode="after")
    def _options_fit(self) -> "RsaConfig":
        for option in self.sampling:
            if self.is_closed_form and option in self.model_fields_set:
                raise ValueError(
                    f"{option} is an option of distance=euclidean, or of spearman and kendall: "
                    "all else is exact for any number of images"
                )
        return self

    @property
    def is_closed_form(self) -> bool:
        """Whether sums over images suffice: always exact, never sampled."""
        return self.correlation == "pearson" and self.distance != "euclidean"

    def inapplicable(self) -> set[str]:
        """Options that the others leave without a meaning."""
        return set(self.sampling) if self.is_closed_form else set()

    def is_sampled(self, num_images: int) -> bool:
        """Whether this many images are too many to be compared exactly."""
        return not self.is_closed_form and num_images * (num_images - 1) // 2 > self.pairs


class CkaLowerBoundConfig(MetricConfig):
    """(1 - rho) / (1 + rho) <= cka kernel=cosine hsic=biased, rho = |K_a - K_b| / |K_a|."""

    name: Literal["cka_lower_bound"] = "cka_lower_bound"


class RsaLowerBoundConfig(MetricConfig):
    """(1 - r) / (1 + r) <= rsa distance=cosine correlation=pearson, for r <= 1.

    r = |b - a| / |a - mean a| of the distances of all pairs.
    """

    name: Literal["rsa_lower_bound"] = "rsa_lower_bound"


class ProcrustesConfig(MetricConfig):
    """Orthogonal Procrustes distance, squared: 0 for the same space up to a rotation, 2 at most."""

    name: Literal["procrustes"] = "procrustes"


class KnnConfig(MetricConfig):
    """Mutual k-nearest-neighbour overlap: the share of neighbours that both spaces agree on."""

    sampling: ClassVar[tuple[str, ...]] = ("images", "seed")
    name: Literal["knn"] = "knn"
    k: PositiveInt = 10
    distance: Literal["cosine", "euclidean"] = "cosine"
    images: PositiveInt = 20_000
    """How many images are compared at most: above, a random sample."""
    seed: int = 0
    """Of the sample."""

    def is_sampled(self, num_images: int) -> bool:
        """Whether this many images are too many to be compared exactly."""
        return num_images > self.images


class SvccaConfig(MetricConfig):
    """Mean canonical correlation of the directions that hold most of the variance."""

    name: Literal["svcca"] = "svcca"
    variance: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Share of the variance that is kept of each space."""


class PwccaConfig(MetricConfig):
    """Canonical correlations weighted by how much of the first space they account for."""

    name: Literal["pwcca"] = "pwcca"


AnyMetric = (
    CkaConfig
    | RsaConfig
    | CkaLowerBoundConfig
    | RsaLowerBoundConfig
    | ProcrustesConfig
    | KnnConfig
    | SvccaConfig
    | PwccaConfig
)
_MODELS: dict[str, type[AnyMetric]] = {
    get_args(model.model_fields["name"].annotation)[0]: model for model in get_args(AnyMetric)
}
METRIC_NAMES = tuple(_MODELS)

# What the study's original code reports.
ORIGINAL_CKA = CkaConfig().identifier
ORIGINAL_RSA = RsaConfig().identifier
DEBIASED_CKA = CkaConfig(hsic="debiased").identifier
# What is measured of a run unless told otherwise.
USUAL_OF_RUNS = (ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA)

# What is measured of two matrices of features, unless told otherwise.
USUAL_METRICS = (
    "cka",
    "cka hsic=debiased",
    "cka kernel=cosine hsic=debiased",
    "cka kernel=rbf hsic=debiased",
    "rsa",
    "rsa distance=correlation",
    "rsa distance=sqeuclidean",
    "rsa distance=euclidean",
    "rsa correlation=spearman",
    "rsa correlation=kendall",
    "cka_lower_bound",
    "rsa_lower_bound",
    "knn",
    "procrustes",
    "svcca",
    "pwcca",
)


def parse_metric(text: str) -> AnyMetric:
    """The metric of a name and its options, such as `rsa distance=euclidean correlation=spearman`.

    Raises ConfigError that names the option, what is allowed and the nearest match.
    """
    name, *options = text.split() or [""]
    name = name.lower()
    if name not in METRIC_NAMES:
        raise ConfigError(f"metric '{text}': {unknown('a metric', name, METRIC_NAMES)}")
    values: dict[str, Any] = {"name": name}
    for option in options:
        key, _, value = option.partition("=")
        if not key or not value:
            raise ConfigError(f"metric '{text}': '{option}' is not an option: write key=value")
        if key in values:
            raise ConfigError(f"metric '{text}': '{key}' stands twice")
        values[key] = parse_yaml(value, f"metric '{text}'")
    try:
        return _MODELS[name].model_validate(values)
    except ValidationError as error:
        raise config_error(error, _MODELS[name], f"metric '{text}'") from error


def parse_metrics(texts: Sequence[str]) -> tuple[AnyMetric, ...]:
    """The metrics of several texts, each once, in their order."""
    return tuple(dict.fromkeys(parse_metric(text) for text in texts))


def short_name(identifier: str) -> str:
    """`CKA`, `debiased CKA`, `RSA`, or the identifier itself."""
    usual = {ORIGINAL_CKA: "CKA", DEBIASED_CKA: "debiased CKA", ORIGINAL_RSA: "RSA"}
    return usual.get(identifier, identifier)


def name_with_sample(identifier: str) -> str:
    """The short name of a metric, with the options of the sample that it took."""
    return short_name(parse_metric(identifier).sampled_identifier)


def heading(identifier: str) -> str:
    """The short name as narrow as it can be: its words below each other."""
    return short_name(identifier).replace(" ", "\n")


def main_metrics(identifiers: Iterable[str]) -> list[str]:
    """Of the metrics that were measured, the CKA and the RSA that a report is about."""
    there = set(identifiers)
    cka = [name for name in (ORIGINAL_CKA, DEBIASED_CKA) if name in there]
    return [*cka[:1], *(name for name in (ORIGINAL_RSA,) if name in there)]
