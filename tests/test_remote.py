"""Results travel: a fresh clone pulls them and repeats nothing; experiments are one option away and compared."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from project import Project, reproduced

pytestmark = pytest.mark.pipeline
BIG = (
    "data/collect",
    "data/replay",
    "models/pretrain",
    "models/finetune",
    "results/episodes.parquet",
    "results/passed",
    "results/stress.parquet",
)
BUCKET = "s3://rmiov2/team"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The pipeline has run once, and nothing is committed yet."""
    return reproduced(tmp_path_factory, "remote")


def refused(project, *command):
    """The one sentence on standard error of a command that ends with 2."""
    done = subprocess.run(command, cwd=project.root, env=project.env, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


class Clone(Project):
    """A fresh clone of a project, with caches of its own."""

    def __init__(self, origin, folder):
        self.root, self.env = folder / "clone", origin.env | {"DVC_SITE_CACHE_DIR": str(folder / "site")}
        self.env["PYTHONPATH"] = str(self.root)
        subprocess.run(["git", "clone", "-q", str(origin.root), str(self.root)], check=True)


@pytest.fixture(scope="module")
def s3():
    """A server that speaks S3 on a free port, and the environment in which it is the one that is meant."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    where |= {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until_it_listens(server, port)
        made = "import boto3; boto3.client('s3').create_bucket(Bucket='rmiov2')"
        subprocess.run([sys.executable, "-c", made], env=os.environ | where, check=True)
        yield where
    finally:
        server.terminate()
        server.wait(30)


def until_it_listens(server, port):
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.2)


def test_results_that_git_does_not_know_are_not_pushed(project):
    elsewhere = str(project.root.parent / "elsewhere")
    sentence = refused(project, "python", "-m", "pipelines.remote", "push", "--store", elsewhere)
    assert sentence.startswith("push: dvc.lock and ") and "commit" in sentence
    assert not (project.root.parent / "rmiov2-store").exists()
    assert elsewhere not in project.run("dvc", "config", "--list")  # what was refused is not remembered
    project.commit()


def test_a_clone_pulls_what_was_pushed_and_repeats_nothing(project, tmp_path):
    said = project.run("python", "-m", "pipelines.remote", "push")
    store = project.root.parent / "rmiov2-store"
    assert said.strip().endswith(f"push: done, store: {store}") and store.is_dir()
    clone = Clone(project, tmp_path)
    assert "rmiov2-store" in refused(clone, "python", "-m", "pipelines.remote", "pull")  # nothing is beside this one
    clone.run("python", "-m", "pipelines.remote", "pull", "--store", str(store))
    assert same(project, clone) and clone.repro() == []
    assert clone.run("git", "status", "--porcelain") == ""


def same(one, other):
    """Whether both have the same large results."""
    for name in BIG:
        files = [name] if (one.root / name).is_file() else listed(one.root, name)
        assert files and (files == [name] or files == listed(other.root, name))
        if any((one.root / file).read_bytes() != (other.root / file).read_bytes() for file in files):
            return False
    return True


def listed(root, folder):
    return sorted(str(path.relative_to(root)) for path in (root / folder).rglob("*") if path.is_file())


def test_s3_by_one_setting(project, s3, tmp_path):
    project.env |= s3
    said = project.run("python", "-m", "pipelines.remote", "push", "--store", BUCKET)
    assert said.strip().endswith(f"push: done, store: {BUCKET}")
    clone = Clone(project, tmp_path)
    clone.run("dvc", "remote", "modify", "--local", "store", "url", BUCKET)
    clone.run("python", "-m", "pipelines.remote", "pull")
    assert same(project, clone) and clone.repro() == []


def test_an_experiment_by_one_option_and_compared(project):
    project.commit()
    project.run("dvc", "exp", "run", "-n", "lower", "-S", "finetune.p_mask=0.1", "finetune")
    assert "p_mask: 0.1" in (project.root / "params.yaml").read_text()
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")
    project.run("dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", "finetune.p_mask=0.4", "finetune")
    assert project.run("git", "status", "--porcelain") == ""
    lines = json.loads(project.run("dvc", "exp", "show", "--json"))
    shown = [state for line in lines for state in line["experiments"] or []]
    data = {state["revs"][0]["name"]: state["revs"][0]["data"] for state in shown}
    rates = {name: data[name]["params"]["params.yaml"]["data"]["finetune"]["p_mask"] for name in ("lower", "elsewhere")}
    assert rates == {"lower": 0.1, "elsewhere": 0.4}
    metrics = [data[name]["metrics"]["metrics/finetune.json"]["data"] for name in rates]
    assert metrics[0]["l_rec"]["before"] == metrics[1]["l_rec"]["before"]
    assert metrics[0]["l_rec"]["after"] != metrics[1]["l_rec"]["after"]
    table = csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "--csv")))
    shown = {row["Experiment"]: row for row in table if row["Experiment"] in rates}
    assert {name: float(row["finetune.p_mask"]) for name, row in shown.items()} == rates
    after = [float(shown[name]["metrics/finetune.json:l_rec.after"]) for name in rates]
    assert after == pytest.approx([found["l_rec"]["after"] for found in metrics])


def test_the_doctor_finds_what_is_broken_in_the_cache_and_says_how_to_mend_it(project):
    said = project.run("python", "-m", "pipelines.doctor")
    assert said.strip().endswith(f"doctor: nothing wrong in {project.root}")
    broken = next(path for path in (project.root / ".dvc/cache/files/md5").glob("??/*") if path.suffix != ".dir")
    whole = broken.read_bytes()
    broken.chmod(0o644)
    broken.write_bytes(whole[:-1])
    done = subprocess.run(["python", "-m", "pipelines.doctor"], cwd=project.root, env=project.env, capture_output=True)
    (sentence,) = [line for line in done.stdout.decode().splitlines() if line.startswith("wrong: ")]
    assert done.returncode == 1 and broken.name in sentence and "make pull" in sentence
    broken.write_bytes(whole)
