"""The schedules of the night: each calls the same command, and says which ends are worth another try."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sjd_dask.jobs.nightly_spec import NightlySpec
from sjd_dask.jobs.spec import parse_spec

NIGHT = Path(__file__).parents[2] / "deploy" / "night"
COMMAND = ["sjd", "run", "/etc/sjd-dask/nightly.yaml", "--report", "/var/lib/sjd-dask/night.html"]
THREADS = {
    f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMBA")
}  # fmt: skip
# Ends that only a person can mend; the others (5 interrupted, 6 busy) are worth another try.
HOPELESS = {2, 3, 4}


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",), comment_prefixes=("#",))
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((NIGHT / name).read_text(encoding="utf-8"))
    return read


def cron_line(name: str) -> tuple[list[str], str]:
    """The five fields and the command of a crontab with one entry."""
    lines = [line for line in (NIGHT / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    entries = [line for line in lines if not re.match(r"^[A-Z_]+=", line)]
    assert len(entries) == 1
    *fields, command = entries[0].split(None, 5)
    return fields, command


def check_fields(fields: list[str]) -> None:
    for field, (low, high) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        for part in field.split(","):
            found = re.fullmatch(r"(\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
            assert found, part
            assert all(low <= int(one) <= high for one in found.group(2, 3) if one)


def cron_job() -> tuple[dict[str, Any], dict[str, Any]]:
    spec, job = yaml.safe_load_all((NIGHT / "cronjob.yaml").read_text(encoding="utf-8"))
    return spec, job


def called(text: str) -> list[str]:
    """A command without what a schedule needs around it."""
    words = [word for word in shlex.split(text) if word not in ("exec", "--quiet")]
    return [Path(words[0]).name, *words[1:]]


def test_all_schedules_call_the_same_command() -> None:
    container = cron_job()[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    commands = {
        "systemd": unit("sjd-nightly.service")["Service"]["ExecStart"],
        "cron": cron_line("crontab")[1],
        "scrontab": cron_line("scrontab")[1],
        "kubernetes": shlex.join(container["command"]),
    }
    assert {name: called(text) for name, text in commands.items()} == dict.fromkeys(commands, COMMAND)
    assert "exec " in commands["scrontab"]  # Slurm's signal reaches the driver, not a shell


def test_the_command_is_one_that_sjd_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """The spec isn't there: it gets as far as reading it, with every option understood."""
    from sjd_dask.cli import main

    with pytest.raises(SystemExit) as ended:
        main([*COMMAND[1:], "--quiet"])
    assert ended.value.code == 2 and f"there is no spec file {COMMAND[2]}" in capsys.readouterr().err


def test_cron_and_scrontab_are_well_formed() -> None:
    for name in ("crontab", "scrontab"):
        fields, command = cron_line(name)
        check_fields(fields)
        assert "%" not in command  # cron takes it for a line's end
    text = (NIGHT / "crontab").read_text(encoding="utf-8")
    assert set(re.findall(r"^([A-Z]+_NUM_THREADS)=1$", text, re.MULTILINE)) == THREADS
    options = dict(re.findall(r"^#SCRON --([a-z-]+)=(\S+)$", (NIGHT / "scrontab").read_text("utf-8"), re.MULTILINE))
    # What it can't name it can't keep: every line that looks like an option is one.
    assert len(options) == (NIGHT / "scrontab").read_text("utf-8").count("#SCRON ")
    assert options["dependency"] == "singleton" and options["nodes"] == "1" and options["signal"] == "B:TERM@300"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", options["time"]) and int(options["cpus-per-task"]) > 1


def test_the_service_tries_again_what_is_worth_it() -> None:
    service = unit("sjd-nightly.service")["Service"]
    assert {int(one) for one in service["RestartPreventExitStatus"].split()} == HOPELESS
    assert (service["Type"], service["Restart"], service["KillMode"]) == ("oneshot", "on-failure", "mixed")
    assert {one.split("=")[0] for one in service["Environment"].split()} == THREADS
    timer = unit("sjd-nightly.timer")["Timer"]
    assert timer["Persistent"] == "true" and re.fullmatch(r"\*-\*-\* \d\d:\d\d:\d\d", timer["OnCalendar"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """It wants the command to be there: this environment's stands for it."""
    text = (NIGHT / "sjd-nightly.service").read_text(encoding="utf-8")
    assert "/opt/sjd-dask/bin/sjd " in text
    there = text.replace("/opt/sjd-dask/bin/sjd ", f"{sys.executable} ")
    (tmp_path / "sjd-nightly.service").write_text(there, encoding="utf-8")
    shutil.copy(NIGHT / "sjd-nightly.timer", tmp_path)
    units = [tmp_path / "sjd-nightly.service", tmp_path / "sjd-nightly.timer"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    (tmp_path / "sjd-nightly.service").write_text(there.replace("Type=oneshot", "Type=once"), encoding="utf-8")
    wrong = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert "service type" in wrong.stderr


def test_the_cron_job_holds_a_valid_spec_and_one_night_at_a_time() -> None:
    config, job = cron_job()
    spec = parse_spec(yaml.safe_load(config["data"]["nightly.yaml"]), "cronjob.yaml")
    assert isinstance(spec, NightlySpec)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    check_fields(job["spec"]["schedule"].split())
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    inner = job["spec"]["jobTemplate"]["spec"]
    pod = inner["template"]["spec"]
    container = pod["containers"][0]
    # Kubernetes takes a policy on exit codes only with this.
    assert pod["restartPolicy"] == "Never" and inner["backoffLimit"] >= 1
    rule = next(one for one in inner["podFailurePolicy"]["rules"] if "onExitCodes" in one)
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["containerName"] == container["name"]
    assert set(rule["onExitCodes"]["values"]) == HOPELESS
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    mounts = [one["mountPath"] for one in container["volumeMounts"]]
    for path in (COMMAND[2], COMMAND[4], spec.cohort, str(spec.inbox)):
        assert any(path.startswith(one) for one in mounts), path
    assert {one["name"] for one in container["env"] if one["value"] == "1"} == THREADS


def test_kubernetes_takes_the_cron_job() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in cron_job():
        validate.validate(document, "1.31", strict=True)
