"""The SLURM scripts, run with stand-ins for SLURM, the launcher and vLLM."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from trl_archer.commands.train.run import make_parser
from trl_archer.grpo.vllm_server import start_command

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples" / "slurm").glob("*.sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_pass_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    command = [shellcheck] if shellcheck else ["bash", "-n"]
    result = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


STUBS = {  # they write their arguments to files
    "scontrol": """\
echo "scontrol $*" >> "$LOG"
[ "$1" != show ] || printf "node%s\\n" 0 1 2 | head -n "$SLURM_JOB_NUM_NODES"
""",
    # Runs the command that follows its own flags, as the second node
    "srun": """\
while [ "${1#--}" != "$1" ]; do shift; done
SLURM_NODEID=1 exec "$@"
""",
    "accelerate": """\
printf "%s\\n" "$@" > "$LOG.accelerate"
touch "$LOG.started"
[ "$SLURM_JOB_NUM_NODES" = 2 ] || while [ ! -s "$LOG.vllm" ]; do sleep 0.1; done
[ -z "$SLEEP" ] || while [ ! -e "$LOG.killed" ]; do sleep 0.1; done
""",
    "vllm": """\
printf "%s\\n" "$VLLM_SERVER_DEV_MODE" "$@" > "$LOG.vllm.part"
mv "$LOG.vllm.part" "$LOG.vllm"
exec sleep 60
""",
    "pkill": """\
echo "pkill $*" >> "$LOG"
touch "$LOG.killed"
""",
}


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts a script with stand-ins for SLURM, its launcher and vLLM."""
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "activate").write_text("")

    def start(script: Path, sleep: str = "") -> subprocess.Popen:
        nodes = re.findall(r"#SBATCH --nodes=(\d)", script.read_text())[0]
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "VENV": str(tmp_path),
            "LOG": str(tmp_path / "log"),
            "SLEEP": sleep,
            "USER": "someone",
            "LAUNCH_FLAGS": "--deepspeed_moe_layer_cls_names Qwen3MoeSparseMoeBlock",
            "SLURM_JOB_ID": "1234",
            "SLURM_JOB_NUM_NODES": nodes,
            "SLURM_JOB_NODELIST": "node[0-2]",
            "SLURM_CPUS_PER_TASK": "96",
        }
        recipe = "examples/recipes/math_qwen3_4b.yaml"
        command = ["bash", str(script), recipe, "--learning_rate", "2e-6", "--output_dir", "a b"]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    return start


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_pass_flags_that_exist(script: Path, submit: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    assert submit(script).wait(timeout=60) == 0
    passed = (tmp_path / "log.accelerate").read_text().splitlines()
    assert passed.pop(0) == "launch"
    args = launch_command_parser().parse_args(passed)
    assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 16, 1)
    assert args.deepspeed_moe_layer_cls_names == "Qwen3MoeSparseMoeBlock"
    assert (args.main_process_ip, args.main_process_port, args.module) == ("node0", 21234, True)
    assert (ROOT / args.config_file).is_file()
    assert [args.training_script, args.training_script_args[0]] == ["trl_archer.cli", "train"]
    flags = args.training_script_args[1:]
    values, rest = make_parser().parse_known_args(flags)
    assert rest == []
    assert (values.resume_from_checkpoint, values.enable_jit_checkpoint) == ("auto", True)
    assert (values.learning_rate, values.output_dir) == (2e-6, "a b")
    assert values.config == "examples/recipes/math_qwen3_4b.yaml"
    if script.stem == "train_server":
        assert (values.vllm_mode, values.vllm_server_base_url) == ("server", "http://node2:8000")
        served = (tmp_path / "log.vllm").read_text().splitlines()
        assert served[:5] == ["1", "serve", "Qwen/Qwen3-4B", "--max-model-len", "10240"]
        own = start_command({"vllm_server_base_url": "http://node2:8000"}, "Qwen/Qwen3-4B")
        environment, *command = shlex.split(own)  # from the trainer's message about a missing server
        assert environment == f"VLLM_SERVER_DEV_MODE={served[0]}"
        assert command[1:3] == served[1:3]
        assert command[-4:] == served[-4:]
        assert ("--port", "8000") in pairwise(served)
    assert "requeue" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_save_and_requeue(script: Path, submit: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    job = submit(script, sleep="yes")
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0
    calls = (tmp_path / "log").read_text().splitlines()
    killed = next(call for call in calls if call.startswith("pkill"))
    pattern = killed.split(" -f ")[1]
    assert re.search(pattern, "/opt/venv/bin/python3.11 -u -m trl_archer.cli train --config r.yaml")
    launcher = "/opt/venv/bin/python3.11 /opt/venv/bin/accelerate launch --config_file x -m trl_archer.cli train"
    assert not re.search(pattern, launcher)
    assert calls[-1] == "scontrol requeue 1234"
