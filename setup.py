"""Packaging: the folders `transforms/` and `pipeline/` install as `rtdscan.transforms` and `rtdscan.pipeline`.

Plain top-level names would be shadowed by a folder `pipeline` or `transforms` beside the user's own script.
"""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ["transforms", "pipeline"]

packages = []
for root in PACKAGES:
    packages += [f"rtdscan.{root}", *(f"rtdscan.{root}.{name}" for name in find_packages(root))]

EXTRAS = {
    "openvino": ["openvino>=2025.0"],  # `engine: auto` takes it where it is installed
    "ray": ["ray>=2.40"],  # the same version as on the cluster
    "train": ["tensorboard>=2.16"],
    "phones": ["phonenumberslite>=9"],  # phone numbers in `rtdscan clean`: 0.5 MB, Apache-2.0, Google's patterns
    "evaluate": ["chunspell>=2.0.5"],  # chunspell: Hunspell with its English dictionary
    "review": ["duckdb>=1.3", "gradio>=6.31,<7"],  # the page of `rtdscan review`
    "gcp": ["apache-beam[gcp]"],
    "aws": ["apache-beam[aws]"],
}

TEST = [
    *EXTRAS["openvino"],
    *EXTRAS["phones"],
    *EXTRAS["review"],
    "boto3>=1.34",
    "hypothesis>=6.100",
    "jsonschema>=4.20",  # checks the manifests for Kubernetes
    "kubernetes-validate>=1.30",  # the schemas of its manifests
    "moto[server]>=5",  # an S3 server
    "mypy>=1.15",
    "polars>=1.20",
    "psutil>=6",
    "pytest>=8",
    "pytest-cov>=6",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",  # the tests on several cores
    "ruff>=0.9",
    "scikit-learn>=1.5",  # the yardstick of our own metrics
    "selenium>=4.20",  # drives the headless Chromium that looks at the report
    "types-PyYAML",
    "types-psutil",
]

setup(
    name="rtdscan",
    version="0.1.0",
    description="Finds the words that do not belong: text-corpus quality scanner on Apache Beam and ELECTRA",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # Code and model are under Apache-2.0; of word lists and the demo's passages transforms/data/*/README.md tell.
    license_expression="Apache-2.0 AND CC-BY-SA-3.0 AND CC-BY-4.0 AND CC-BY-2.5 AND CC0-1.0",
    license_files=["LICENSE", "transforms/data/*/README.md"],
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    package_dir={f"rtdscan.{root}": root for root in PACKAGES},
    packages=packages,
    package_data={
        "rtdscan.transforms": ["py.typed", "data/**/*"],
        "rtdscan.pipeline": ["py.typed"],
        "rtdscan.pipeline.page": ["templates/*"],
        "rtdscan.pipeline.report": ["templates/*"],
    },
    install_requires=[
        "apache-beam>=2.77,<2.80",
        # Finds text that was read by the wrong codec and reads it right (Apache-2.0, 6 MB with wcwidth, pure Python).
        "ftfy>=6.2",
        "jinja2>=3.1",
        "matplotlib>=3.8",  # figures of the report
        "numpy>=2",
        # The fastest engine on an x86 CPU (Apache-2.0, 60 MB): a first scan without it takes twice as long.
        'openvino>=2025.0; platform_machine == "x86_64" or platform_machine == "AMD64"',
        "prometheus-client>=0.20",
        "pyarrow>=18,!=19.0.0,<26",  # Beam 2.77 pins the upper bound; 19.0.0 aborts on files that Java wrote
        "pydantic>=2.9,<3",  # typed settings with an error for each wrong key
        "pyyaml>=6",
        "rapidfuzz>=3.10",  # edit distances to a whole word list in C++ (MIT, 3 MB, no dependencies)
        "rich>=13.7",  # progress bar and tables
        "safetensors>=0.5",
        "tokenizers>=0.21",
        # A bare `torch` pulls gigabytes of CUDA on Linux; see README, "Two commands".
        "torch>=2.6,<2.14",
        "transformers>=5,<6",
    ],
    extras_require={**EXTRAS, "test": TEST},
    entry_points={"console_scripts": ["rtdscan = rtdscan.pipeline.__main__:program"]},
)
