"""What the page about transferability scores says is what its rows say; ranks by hand on small tables."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tlutils import transferability

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import transferability_scores as ranks


def test_scores_are_ranked_against_results_over_networks_and_over_depths():
    points = [(network, depth) for network in range(3) for depth in range(3)]
    rows = pd.DataFrame(
        [
            {
                "dataset": name,
                "seed": seed,
                "backbone": network,
                "at": depth,
                "result": sign * (network + 10 * depth),
            }
            for name, sign in (("a", 1), ("b", 1), ("c", -1))
            for seed in (0, 1)
            for network, depth in points
        ]
    )
    rows = rows.assign(good=rows["result"] ** 3, bad=-rows["result"], depth=rows["at"], same=1.0)
    found = ranks.rank_correlations(rows, ["good", "bad", "depth", "same"]).set_index("score")
    assert found.loc["good", ["all", "networks", "depths"]].tolist() == pytest.approx([1, 1, 1])
    assert found.loc["bad", ["all", "networks", "depths"]].tolist() == pytest.approx([-1, -1, -1])
    # Right for two data sets and wrong for one; the same for all networks, so without an order of them.
    assert found.loc["depth", "depths"] == pytest.approx(1 / 3)
    assert np.isnan(found.loc["depth", "networks"])
    assert np.isnan(found.loc["same", "all"])
    # For a and b the mean of the others is 0 everywhere, which orders nothing; for c it is the wrong order.
    assert found.loc["the order elsewhere", "all"] == pytest.approx(-1)


def test_every_score_is_compared_on_one_clean_task_of_each_data_set():
    runs = pd.DataFrame(ranks.score_runs())
    assert not runs[["wrong"]].any().any()
    assert set(runs["ratio"]) == {1}
    assert set(runs["corruption"]) == {""}
    assert len(runs) == runs["dataset"].nunique() * len(ranks.NETWORKS) * len(ranks.FROZEN) * len(ranks.SEEDS)
    offered = {name for name in transferability.__all__ if name.islower()} - {
        "domain_distance",
        "similarity_border",
    }
    assert len(offered) == len(ranks.SCORES) + len(ranks.SOURCE_SCORES)


def test_the_page_is_written_from_the_kept_rows():
    assert ranks.PAGE.read_text("utf-8") == ranks.write_page(pd.read_parquet(ranks.KEPT))
