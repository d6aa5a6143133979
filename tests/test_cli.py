"""The command line: what each command prints, and what it answers to a wrong call."""

import subprocess
import sys

import pytest

from minigen import cli, kernels, warmup
from minigen.errors import ArgumentError


def test_without_arguments_it_lists_the_commands(capsys):
    assert cli.main([]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("lessons", "run", "train", "sample", "generate", "check", "info"))


def test_lessons_gives_one_line_each(capsys):
    assert cli.main(["lessons"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in lines if line[:2].isdigit()]
    assert names[:5] == ["generative", "autograd", "kernels", "convolution", "recurrent"]
    assert names[5:] == ["vae", "dcgan", "pixelcnn", "flows", "diffusion", "gpt", "scale"]


@pytest.mark.parametrize(
    "argv, status, words",
    [
        (["chek"], 2, "did you mean check?"),
        (["dance"], 2, "there are: lessons"),
        (["run"], 2, "which lesson?"),
        (["run", "vea"], 2, "did you mean 10_vae?"),
    ],
)
def test_wrong_calls(argv, status, words, capsys):
    assert cli.main(argv) == status
    assert words in capsys.readouterr().err


def test_an_error_of_minigen_is_told_without_a_traceback(capsys, monkeypatch):
    def fail(argv):
        raise ArgumentError("no such thing\n  write another")

    monkeypatch.setitem(cli.COMMANDS, "info", fail)
    assert cli.main(["info"]) == 2
    assert capsys.readouterr().err == "minigen info: no such thing\n  write another\n"


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "info", interrupt)
    assert cli.main(["info"]) == 130


def test_info_names_versions_and_devices():
    found = warmup.circumstances()
    assert "cpu" in found["devices"] and found["numpy"][0].isdigit()
    with kernels.disabled():
        assert "definitions" in warmup.circumstances()["kernels"]


def test_warmup_takes_a_step_with_every_kind_of_layer():
    names = []
    for name, step in warmup._steps():
        names.append(name)
        if name.startswith("small"):
            step()
    assert any("LSTM" in name for name in names) and any("convolutions" in name for name in names)


def test_python_m_minigen_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "minigen", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("minigen ")
