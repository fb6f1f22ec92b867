"""The list of dependencies that images install."""

from scripts.requirements import main


def test_dependencies_and_extras(capsys):
    assert main(["insightface"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("torch==") for line in lines)
    assert any(line.startswith("insightface") for line in lines)
    assert not any(line.startswith("pytest") for line in lines)


def test_an_extra_that_does_not_exist(capsys):
    assert main(["gpuu"]) == 1
    assert "no extra gpuu; there are cuda, " in capsys.readouterr().err


def test_a_dependency_is_left_out(capsys):
    assert main(["s3", "--without", "torch", "aiortc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not any(line.startswith(("torch", "aiortc")) for line in lines)
    assert any(line.startswith("boto3") for line in lines)
    assert any(line.startswith("fastapi") for line in lines)


def test_leaving_out_what_nobody_needs(capsys):
    assert main(["--without", "troch"]) == 1
    assert "no dependency troch" in capsys.readouterr().err
