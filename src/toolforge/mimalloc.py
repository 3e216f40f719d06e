"""The allocator under which the stages of tensors run: `LD_PRELOAD=$(python -m toolforge.mimalloc)`.

glibc's malloc hands large tensors back to the kernel, or, told to keep them, searches its free lists ever longer.
"""

from importlib.metadata import PackageNotFoundError, files


def library() -> str:
    """The path of mimalloc's library, which the package cmeel-mimalloc carries; empty where it is not installed."""
    try:
        found = files("cmeel-mimalloc") or []
    except PackageNotFoundError:
        found = []
    return next((str(file.locate()) for file in found if file.name == "libmimalloc.so"), "")


if __name__ == "__main__":
    print(library())
