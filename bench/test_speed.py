"""The speed bench: its tables, and peers that cannot run."""

import sys
from pathlib import Path

from bench import peers, speed
from bench.peers import Peer, PeerSpeed
from jaxface.reference.comparison.clips import Data

_SECOND = {"first": 10.0, "done": 11.0, "peak": 500.0, "rows": 50, "slow": 0.0}


def test_medians_of_runs_and_their_table():
    runs = [(w, 1.0 + w, {**_SECOND, "rate": r}) for w, r in ((2.0, 50), (1.0, 40), (5.0, 20))]
    found = speed.medians("a.wmv", "offline", 30.0, runs, 0.05)  # pyright: ignore[reportArgumentType]
    assert (found.whole, found.steady, found.products) == (25, 40, 0.5)
    assert (found.cold, found.warm, found.peak, found.runs) == (30, 3, 500, 3)
    row = speed.to_markdown([found]).splitlines()[2]
    assert row == "| a.wmv | offline | 25.0 | 40.0 | 0.5 | 30.0 | 3.0 |  | 500 | 3 |"


def test_openface_is_timed_by_its_rows(tmp_path):
    binary = tmp_path / "FeatureExtraction"
    binary.write_text('#!/bin/sh\nprintf "frame\\n1\\n2\\n" > "$4/$(basename "$2" .wmv).csv"\n')
    binary.chmod(0o755)
    assert 1 < speed.time_openface(binary, tmp_path / "a.wmv", 2) < 2000


def test_a_product_takes_time():
    assert 1e-4 < speed.time_product(1) < 60


def test_a_peer_that_cannot_run_is_skipped_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "PEERS", (Peer("pyclnf", ("none",), "landmarks"),))
    monkeypatch.setattr(peers, "install", lambda peer, folder: Path(sys.executable))
    (tmp_path / "models").mkdir()
    data = Data(tmp_path, tmp_path / "models")
    (found,) = peers.measure_peers(data, "gone.wmv", 1, tmp_path / "peers")
    assert found.steady is None and "pyclnf" in found.reason
    assert "| pyclnf | landmarks | skipped: " in peers.to_markdown([found], 0.05)


def test_a_peer_that_ran():
    row = peers.to_markdown([PeerSpeed("pymtcnn", "MTCNN", 10.0)], 0.05).splitlines()[-1]
    assert row == "| pymtcnn | MTCNN | 10.0 | 2 |"
