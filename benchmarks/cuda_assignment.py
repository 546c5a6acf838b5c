"""Where onnxruntime's CUDA provider would compute the nodes of explainers, asked on a machine without a GPU.

    python benchmarks/cuda_assignment.py model.onnx ...

A session decides that when it is made, before anything is computed. So the provider's library is loaded over stand-ins for CUDA's own
(built here with gcc; "device memory" is ordinary memory, and kernels do nothing), and the sessions of the models' explainers are asked.
What is computed has no meaning. It needs Linux, gcc, nm, and onnxruntime-gpu.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import onnxruntime

from onnx_lrp import Explainer
from onnx_lrp.interpreter import CUDA

COMPOSITES = {
    "epsilon": {},
    "epsilon_plus_flat": {},
    "epsilon_alpha2_beta1_flat": {},
    "epsilon_gamma_box": {"low": -3.0, "high": 3.0},
    "gradient": {},
}
PRECISIONS = ("float32", "float16")

# What has to give an answer; every other function of these libraries returns 0, which is success.
ANSWERS = {
    "cudaGetDeviceCount": "(int *n) { *n = 1; return 0; }",
    "cudaGetDevice": "(int *n) { *n = 0; return 0; }",
    "cudaDeviceGetAttribute": "(int *n) { *n = 1; return 0; }",
    "cudaDriverGetVersion": "(int *n) { *n = 13000; return 0; }",
    "cudaRuntimeGetVersion": "(int *n) { *n = 13000; return 0; }",
    # cudaDeviceProp: memory, threads of a warp and of a block, compute capability 9.0
    "cudaGetDeviceProperties": "(char *p) { memset(p, 0, 512); *(size_t *)(p + 288) = 80ull << 30; *(int *)(p + 308) = 32; "
    "*(int *)(p + 320) = 1024; *(int *)(p + 360) = 9; return 0; }",
    "cudaMemGetInfo": "(size_t *f, size_t *t) { *f = *t = 80ull << 30; return 0; }",
    "cudaMemcpy": "(void *d, void *s, size_t n) { memcpy(d, s, n); return 0; }",
    "cudaMemcpyAsync": "(void *d, void *s, size_t n) { memcpy(d, s, n); return 0; }",
    "cudaMemset": "(void *p, int v, size_t n) { memset(p, v, n); return 0; }",
    "cudaMemsetAsync": "(void *p, int v, size_t n) { memset(p, v, n); return 0; }",
    "__cudaRegisterFatBinary": "() { static long handle; return (long)&handle; }",
    **dict.fromkeys(
        ("cudaMalloc", "cudaMallocHost", "cudaHostAlloc", "cudaMallocFromPoolAsync"),
        "(void **p, size_t n) { *p = calloc(1, n + 256); return 0; }",
    ),
    **dict.fromkeys(
        ("cudaGetErrorName", "cudaGetErrorString", "cublasGetStatusName", "cublasGetStatusString", "cudnnGetErrorString"),
        '() { return (long)"none"; }',
    ),
}
MAKERS = ("cudaStreamCreate", "cudaEventCreate", "cublasCreate", "cublasLtCreate", "cudaMemPoolCreate", "cudnnCreate")
HANDLE = "(void **p) { *p = calloc(1, 64); return 0; }"


def main() -> None:
    models = [str(Path(model).resolve()) for model in sys.argv[1:]]
    if not models:
        sys.exit(__doc__)
    if "STAND_INS" in os.environ:
        ask(models)
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        environment = os.environ | {"STAND_INS": folder, "LD_LIBRARY_PATH": folder}
        sys.exit(subprocess.run([sys.executable, __file__, *models], env=environment, check=False).returncode)


def build(folder: Path) -> None:
    """Builds libraries with the functions that the provider wants of CUDA's."""
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    listed = subprocess.run(["nm", "-D", "--undefined-only", provider], capture_output=True, text=True, check=True).stdout.split()
    of_driver = [name for name in listed if name.startswith("cu") and "@" not in name]
    wanted: dict[str, list[str]] = {"libcurand.so.10": [], "libcuda.so.1": of_driver}
    for name in listed:
        function, _, library = name.partition("@")
        if library.startswith(("libcu", "libcublas")):
            wanted.setdefault(library, []).append(function)
    for library, functions in wanted.items():
        compiled(folder / library, functions, library)
    # cuDNN is loaded by name when it is needed: its functions are among the texts in the provider.
    texts = provider.read_bytes().split(b"\0")
    compiled(folder / "libcudnn.so", sorted({text.decode() for text in texts if text.startswith(b"cudnn") and text.isalnum()}))


def compiled(path: Path, functions: Iterable[str], version: str = "") -> None:
    body = "".join(f"long {name}{ANSWERS.get(name) or (HANDLE if name.startswith(MAKERS) else '() { return 0; }')}\n" for name in functions)
    source, script = path.with_suffix(".c"), path.with_suffix(".map")
    source.write_text(f"#include <stdlib.h>\n#include <string.h>\n{body}")
    script.write_text(f"{version or 'unversioned'} {{ global: *; }};\n")
    versions = [f"-Wl,--version-script={script}", f"-Wl,-soname,{version}"] if version else []
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", *versions, "-o", path, source], check=True)


def ask(models: Iterable[str]) -> None:
    """Prints a row for each model, composite and precision."""
    print("| model | composite | precision | CUDA | CPU, computing shapes | fallen back to the CPU |")
    print("| --- | --- | --- | ---: | ---: | --- |")
    for model in models:
        for composite, options in COMPOSITES.items():
            for precision in PRECISIONS:
                row = asked(lambda c=composite, o=options, p=precision, m=model: Explainer(m, c, providers=CUDA, precision=p, **o))
                print("| " + " | ".join([Path(model).stem, composite, precision, *row]) + " |", flush=True)


def asked(explainer: Callable[[], Explainer]) -> list[str]:
    placed = explainer().assignment()
    fallen = Counter(node.operator for node in placed.fallen_back)
    counts = placed.counts
    shapes = counts.get("CPUExecutionProvider", 0) - fallen.total()
    return [str(counts.get("CUDAExecutionProvider", 0)), str(shapes), ", ".join(f"{n} {op}" for op, n in fallen.items()) or "none"]


if __name__ == "__main__":
    main()
