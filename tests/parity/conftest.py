"""With --cases DIR only the cases in DIR run, not the tests of the bundled ones and of the runner."""


def pytest_ignore_collect(collection_path, config):
    others = ("test_float32.py", "test_runner.py")
    return True if config.getoption("--cases") and collection_path.name in others else None
