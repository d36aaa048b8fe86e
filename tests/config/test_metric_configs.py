from typing import get_args

import pytest

from alignctl.config.metric_configs import (
    DEBIASED_CKA,
    METRIC_NAMES,
    ORIGINAL_CKA,
    ORIGINAL_RSA,
    USUAL_METRICS,
    AnyMetric,
    CkaConfig,
    KnnConfig,
    RsaConfig,
    SvccaConfig,
    heading,
    main_metrics,
    name_with_sample,
    parse_metric,
    parse_metrics,
    short_name,
)
from alignctl.errors import ConfigError

FEW, MANY = 100, 10**6

# What is asked for, its name without a sample, and all options of the sample it may take.
FULL_NAMES = [
    ("cka", "cka kernel=linear hsic=biased", ""),
    ("cka hsic=debiased", "cka kernel=linear hsic=debiased", ""),
    ("cka kernel=cosine", "cka kernel=cosine hsic=biased", ""),
    (
        "cka kernel=rbf", "cka kernel=rbf hsic=biased bandwidth=1",
        " images=10000 seed=0",
    ),
    (
        "cka seed=-3 images=200 bandwidth=0.5 hsic=debiased kernel=rbf",
        "cka kernel=rbf hsic=debiased bandwidth=0.5", " images=200 seed=-3",
    ),
    (
        "cka hsic=debiased batch_size=64",
        "cka kernel=linear hsic=debiased batch_size=64 seed=0", "",
    ),
    (
        "cka hsic=debiased batch_size=32 seed=7",
        "cka kernel=linear hsic=debiased batch_size=32 seed=7", "",
    ),
    ("rsa", "rsa distance=cosine correlation=pearson", ""),
    ("rsa distance=sqeuclidean", "rsa distance=sqeuclidean correlation=pearson", ""),
    ("rsa distance=correlation", "rsa distance=correlation correlation=pearson", ""),
    (
        "rsa distance=euclidean", "rsa distance=euclidean correlation=pearson",
        " pairs=10000000 seed=0",
    ),
    (
        "rsa correlation=spearman", "rsa distance=cosine correlation=spearman",
        " pairs=10000000 seed=0",
    ),
    (
        "rsa correlation=kendall pairs=7000 seed=1", "rsa distance=cosine correlation=kendall",
        " pairs=7000 seed=1",
    ),
    ("cka_lower_bound", "cka_lower_bound", ""),
    ("rsa_lower_bound", "rsa_lower_bound", ""),
    ("procrustes", "procrustes", ""),
    ("knn", "knn k=10 distance=cosine", " images=20000 seed=0"),
    (
        "knn distance=euclidean k=3 images=101 seed=2", "knn k=3 distance=euclidean",
        " images=101 seed=2",
    ),
    ("svcca", "svcca variance=0.99", ""),
    ("svcca variance=1", "svcca variance=1", ""),
    ("pwcca", "pwcca", ""),
]  # fmt: skip
BY_TEXT = pytest.mark.parametrize(
    ("text", "name", "sampled"), FULL_NAMES, ids=[text for text, *_ in FULL_NAMES]
)


@BY_TEXT
def test_the_full_name_has_every_option_that_matters(text, name, sampled):
    metric = parse_metric(text)
    assert metric.exact_identifier == name
    assert metric.sampled_identifier == name + sampled
    assert metric.is_sampled(MANY) == bool(sampled)
    assert not metric.is_sampled(FEW)


@BY_TEXT
def test_a_full_name_is_read_back_as_the_same_metric(text, name, sampled):
    metric = parse_metric(text)
    assert parse_metric(metric.identifier) == metric
    assert parse_metric(metric.sampled_identifier) == metric
    assert parse_metric(name).identifier == name


@BY_TEXT
def test_a_name_has_those_options_of_the_sample_that_are_not_the_usual_ones(text, name, sampled):
    usual = {"images=10000", "images=20000", "pairs=10000000", "seed=0"}
    words = [name, *(word for word in sampled.split() if word not in usual)]
    assert parse_metric(text).identifier == " ".join(words)


@pytest.mark.parametrize("text", [text for text, _, sampled in FULL_NAMES if sampled])
def test_a_limit_can_be_raised_to_any_number_of_images(text):
    metric = parse_metric(text).exact_up_to(MANY)
    assert not metric.is_sampled(MANY)
    assert metric.is_sampled(MANY + 1)
    assert metric.exact_identifier == parse_metric(text).exact_identifier


def test_a_name_of_a_time_before_seeds_is_read_as_another_metric():
    """Batches were consecutive images then: such rows of a table answer nothing."""
    old = "cka kernel=linear hsic=debiased batch_size=32"
    assert parse_metric(old).identifier == f"{old} seed=0"


def test_the_names_above_have_every_metric_and_every_option():
    there = {tuple(word.partition("=")[0] for word in (name + more).split())
             for _, name, more in FULL_NAMES}  # fmt: skip
    for model in get_args(AnyMetric):
        name = model.model_fields["name"].default
        options = {option for found in there if found[0] == name for option in found[1:]}
        assert options == set(model.model_fields) - {"name"}
    assert {found[0] for found in there} == set(METRIC_NAMES)


@pytest.mark.parametrize("text", USUAL_METRICS)
def test_the_usual_metrics_are_metrics_with_names_of_their_own(text):
    assert parse_metric(text).identifier.startswith(text.split()[0])
    names = {metric.identifier for metric in parse_metrics(USUAL_METRICS)}
    assert len(names) == len(USUAL_METRICS)


@pytest.mark.parametrize(
    ("metric", "largest_exact"),
    [
        (CkaConfig(kernel="rbf", images=50), 50),
        (KnnConfig(images=50), 50),
        (RsaConfig(correlation="spearman", pairs=1225), 50),  # 50 * 49 / 2
        (RsaConfig(distance="euclidean", pairs=1225), 50),
    ],
)
def test_a_sample_is_taken_above_the_limit_only(metric, largest_exact):
    assert not metric.is_sampled(largest_exact)
    assert metric.is_sampled(largest_exact + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'' is not a metric ({', '.join(sorted(METRIC_NAMES))})"),
        ("ckaa", "'ckaa' is not a metric; did you mean 'cka'? (cka, "),
        ("kernel=rbf", "'kernel=rbf' is not a metric"),
        ("cka kernel", "'kernel' is not an option: write key=value"),
        ("cka =rbf", "'=rbf' is not an option: write key=value"),
        ("cka kernel = rbf", "'kernel' is not an option: write key=value"),
        (
            "cka kernel=linea",
            "kernel: 'linea' is not allowed; did you mean 'linear'? (cosine, linear, rbf)",
        ),
        ("cka hsic=unbiased", "hsic: 'unbiased' is not allowed; did you mean 'biased'?"),
        ("rsa distance=cos", "distance: 'cos' is not allowed; did you mean 'cosine'?"),
        ("rsa correlation=tau", "correlation: 'tau' is not allowed (kendall, pearson, spearman)"),
        ("knn distance=correlation", "distance: 'correlation' is not allowed (cosine, euclidean)"),
        ("cka bandwith=2", "bandwith: unknown key; did you mean 'bandwidth'? (allowed: bandwidth"),
        ("pwcca k=3", "k: unknown key (allowed: name)"),
        ("cka bandwidth=2", "bandwidth is an option of kernel=rbf"),
        ("cka seed=1", "seed is an option of kernel=rbf and of batch_size"),
        ("cka kernel=cosine seed=1", "seed is an option of kernel=rbf and of batch_size"),
        (
            "cka hsic=debiased batch_size=64 images=9",
            "images is an option of kernel=rbf",
        ),
        ("cka batch_size=64", "batch_size is an option of kernel=linear hsic=debiased"),
        (
            "cka kernel=cosine hsic=debiased batch_size=64",
            "batch_size is an option of kernel=linear hsic=debiased",
        ),
        ("cka hsic=debiased batch_size=3", "batch_size: input should be greater than or equal to"),
        ("cka hsic=debiased batch_size=2.5", "batch_size: must be a whole number, got 2.5"),
        ("cka kernel=rbf bandwidth=0", "bandwidth: input should be greater than 0, got 0"),
        ("cka kernel=rbf bandwidth=x", "bandwidth: must be a number, got 'x'"),
        ("cka kernel=rbf bandwidth=.inf", "bandwidth: input should be a finite number, got inf"),
        ("cka kernel=rbf images=0", "images: input should be greater than 0, got 0"),
        ("cka seed=x", "seed: must be a whole number, got 'x'"),
        ("rsa pairs=0", "pairs: input should be greater than 0, got 0"),
        ("knn k=0", "k: input should be greater than 0, got 0"),
        ("svcca variance=0", "variance: input should be greater than 0, got 0"),
        ("svcca variance=1.5", "variance: input should be less than or equal to 1, got 1.5"),
        ("svcca variance=.nan", "variance: input should be a finite number, got nan"),
        ("cka kernel=[", "not valid YAML: "),
    ],
)  # fmt: skip
def test_a_wrong_metric_says_what_is_wrong_and_what_is_allowed(text, message):
    with pytest.raises(ConfigError) as error:
        parse_metric(text)
    assert str(error.value).startswith(f"metric '{text}'")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_metrics_are_taken_once_and_in_their_order():
    found = parse_metrics(["rsa", "cka", "rsa distance=cosine", "cka kernel=linear", "knn"])
    assert found == (RsaConfig(), CkaConfig(), KnnConfig())


@pytest.mark.parametrize(
    "text",
    ["cka name=rsa", "knn k=1 k=2", "cka images=5", "rsa pairs=7"],
    ids=["another metric", "twice", "without rbf", "never sampled"],
)
def test_options_that_cannot_be_meant_are_refused(text):
    with pytest.raises(ConfigError):
        parse_metric(text)


@pytest.mark.parametrize(
    "metric",
    [CkaConfig(kernel="rbf", bandwidth=0.123456789), SvccaConfig(variance=0.9999999)],
    ids=["bandwidth", "variance"],
)
def test_every_digit_of_an_option_is_in_the_full_name(metric):
    assert parse_metric(metric.identifier) == metric


def test_the_originals_metrics_have_short_names():
    assert ORIGINAL_CKA == "cka kernel=linear hsic=biased"
    assert ORIGINAL_RSA == "rsa distance=cosine correlation=pearson"
    assert DEBIASED_CKA == "cka kernel=linear hsic=debiased"
    names = [short_name(name) for name in (ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA)]
    assert names == ["CKA", "debiased CKA", "RSA"]
    others = {metric.identifier for metric in parse_metrics(USUAL_METRICS)}
    for name in others - {ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA}:
        assert short_name(name) == name


def test_a_name_with_its_sample_has_the_limit_and_the_seed():
    assert name_with_sample("knn k=10 distance=cosine images=20") == (
        "knn k=10 distance=cosine images=20 seed=0"
    )
    assert name_with_sample(ORIGINAL_CKA) == "CKA"


def test_a_heading_has_its_words_below_each_other():
    assert heading(ORIGINAL_CKA) == "CKA"
    assert heading(DEBIASED_CKA) == "debiased\nCKA"
    assert heading("knn k=10 distance=cosine") == "knn\nk=10\ndistance=cosine"


@pytest.mark.parametrize(
    ("there", "main"),
    [
        ([ORIGINAL_RSA, DEBIASED_CKA, ORIGINAL_CKA, "pwcca"], [ORIGINAL_CKA, ORIGINAL_RSA]),
        ([DEBIASED_CKA, ORIGINAL_RSA], [DEBIASED_CKA, ORIGINAL_RSA]),
        ([ORIGINAL_RSA, "cka kernel=cosine hsic=biased"], [ORIGINAL_RSA]),
        ([DEBIASED_CKA], [DEBIASED_CKA]),
        (["procrustes", "cka", "rsa"], []),
        ([], []),
    ],
)
def test_a_report_is_about_one_cka_and_the_usual_rsa(there, main):
    assert main_metrics(there) == main
    assert main_metrics(iter(there)) == main
