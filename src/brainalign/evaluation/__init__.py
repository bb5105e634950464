"""Scores that can be trusted: identification metrics, intervals, permutation tests, paired comparisons."""

from brainalign.evaluation.evaluate import RetrievalScores, evaluate_retrieval
from brainalign.evaluation.inflation import expected_inflation_of_noise, inflation_gap
from brainalign.evaluation.intervals import Interval, bootstrap_interval, proportion_interval
from brainalign.evaluation.metrics import (
    RankCounts,
    chance_top_k,
    count_ranks,
    mean_reciprocal_rank,
    median_rank,
    ranks,
    top_k_accuracy,
    top_k_hits,
    two_way_identification,
)
from brainalign.evaluation.paired import PairedComparison, paired_bootstrap, smallest_detectable_difference
from brainalign.evaluation.permutation import PermutationTest, permutation_test

__all__ = [
    "Interval",
    "PairedComparison",
    "PermutationTest",
    "RankCounts",
    "RetrievalScores",
    "bootstrap_interval",
    "chance_top_k",
    "count_ranks",
    "evaluate_retrieval",
    "expected_inflation_of_noise",
    "inflation_gap",
    "mean_reciprocal_rank",
    "median_rank",
    "paired_bootstrap",
    "permutation_test",
    "proportion_interval",
    "ranks",
    "smallest_detectable_difference",
    "top_k_accuracy",
    "top_k_hits",
    "two_way_identification",
]
