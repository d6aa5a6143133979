"""Where the packages stand: `kernels/` and `lessons/` lie at the top level and install inside minigen."""

from setuptools import find_packages, setup

packages = find_packages(include=["minigen", "minigen.*"])
for folder, name in [("kernels", "minigen.kernels"), ("lessons", "minigen.lessons")]:
    packages += [name] + [f"{name}.{inner}" for inner in find_packages(folder)]

setup(
    packages=packages,
    package_dir={"minigen": "minigen", "minigen.kernels": "kernels", "minigen.lessons": "lessons"},
    package_data={
        "minigen.bench": ["*.md"],
        "minigen.data": ["digits/*"],
        "minigen.kernels": ["cuda/*.cu", "cuda/*.cuh"],
        "minigen.metrics": ["weights/*"],
        "minigen.lessons": ["*.md", "expected/**/*", "exercises/*.py", "solutions/*.py"],
    },
    include_package_data=False,
)
